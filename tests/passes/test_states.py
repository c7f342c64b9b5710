"""fuse_causal_conv, fuse_scans, lift_cache: what a layer carries from token to token goes through the cache."""

import functools

import mlx.core as mx
import numpy as np
import pytest
import torch
from mlx_lm.models.cache import make_prompt_cache

from porter.validate.decoding import decoded, padded
from porter.validate.variation import carries_state, proposals
from tests.passes.mixers import CHUNK, Decoder
from tests.passes.test_lift_cache import LENGTH, TOKENS, _ids
from tests.random_modules.parity import check_source, close, port_of, to_mlx

CASES = {
    "conv": (["conv", "conv"], ["ArraysCache"] * 2),
    "padded conv": (["padded conv"] * 2, ["ArraysCache"] * 2),
    "conv row": (["conv row", "attention"], ["ArraysCache", "KVCache"]),
    "twice": (["twice", "twice"], ["ArraysCache"] * 2),
    "space": (["space", "space"], ["ArraysCache"] * 2),
    "selective": (["selective", "selective"], ["ArraysCache"] * 2),
    "delta": (["delta", "delta"], ["ArraysCache"] * 2),
    "key delta": (["key delta", "key delta"], ["ArraysCache"] * 2),
    "head delta": (["head delta"], ["ArraysCache"]),
    "lightning": (["lightning", "attention"], ["ArraysCache", "KVCache"]),
    "matrix lstm": (["matrix lstm"] * 2, ["ArraysCache"] * 2),
    "rwkv": (["rwkv", "rwkv"], ["ArraysCache"] * 2),
    "gated": (["gated", "attention"], ["ArraysCache", "KVCache"]),
    "hybrid": (["conv", "attention", "conv"], ["ArraysCache", "KVCache", "ArraysCache"]),
    "both": (["both", "both"], ["CacheList"] * 2),
}


@functools.cache
def _ported(name):
    torch.manual_seed(0)
    return port_of(lambda: Decoder(CASES[name][0]), [_ids()], TOKENS)


@pytest.mark.parametrize("name", CASES)
def test_decode_equals_prefill(name):
    ported = _ported(name)
    check_source(ported.port.model_py)
    assert [type(c).__name__ for c in make_prompt_cache(ported.model)] == CASES[name][1]
    # a chunk has 16 tokens when traced: another length, and one of more chunks with a rest
    for length in (LENGTH - 4, 2 * CHUNK + 5):
        ids = _ids(1, length)
        with torch.no_grad():
            close(np.array(ported.model(to_mlx(ids))), ported.module(ids).numpy())
    assert decoded(ported.model, [to_mlx(_ids(1, 2 * CHUNK + 5))])["gaps"][0] < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_padded_row_equals_the_row_alone(name):
    assert padded(_ported(name).model, [to_mlx(_ids(1))])["gaps"][0] < 1e-5


def test_the_proof_sees_a_source_whose_chunks_each_start_anew():
    """Traced for one chunk alone it is the same recurrence; the proof looks past the chunk."""
    length = proposals("length", LENGTH, carries=True)[0]
    assert length > 256  # mamba_ssm's chunks
    gaps = {}
    for kind in ("space", "local space"):
        torch.manual_seed(0)
        ported = port_of(lambda kind=kind: Decoder([kind]), [_ids()], TOKENS)
        assert carries_state(ported.port.model_py)
        with torch.no_grad():
            expected = ported.module(_ids(1, length)).numpy()
        gaps[kind] = np.abs(np.array(ported.model(to_mlx(_ids(1, length)))) - expected).max()
    assert gaps["space"] < 1e-5 < 1e-3 < gaps["local space"]


def test_a_loop_that_no_recurrence_is_fixes_the_length_and_says_where():
    ported = port_of(lambda: Decoder(["nonlinear"]), [_ids()], TOKENS)
    assert ported.port.inputs[0]["shape"] == ["batch", LENGTH]
    assert any(n.startswith(f"length stayed fixed at {LENGTH}: ") for n in ported.port.notes)
    with torch.no_grad():
        close(np.array(ported.model(to_mlx(_ids(1)))), ported.module(_ids(1)).numpy())


@pytest.mark.parametrize("name", ["conv", "space", "rwkv", "key delta", "matrix lstm"])
def test_text_padded_at_the_right_leaves_the_state_of_its_last_token(name):
    model, ids = _ported(name).model, to_mlx(_ids(1))
    state, short = make_prompt_cache(model), LENGTH - 4
    for cache in state:  # as mlx-lm's batched generation does
        cache.prepare(lengths=[LENGTH, short])
    model(ids, cache=state)
    for cache in state:
        cache.finalize()
    alone = make_prompt_cache(model)
    model(ids[1:, :short], cache=alone)
    step = mx.array([[5], [7]])
    close(np.array(model(step, cache=state)[1:]), np.array(model(step[1:], cache=alone)))
