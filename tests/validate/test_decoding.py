"""decoding: a right decoder passes, and one that forgets its offset, its window or its padding does not."""

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models import gemma3_text, llama
from mlx_lm.models.cache import KVCache

from porter.validate.decoding import decoded, padded, takes_cache

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24, "vocab_size": 50}
IDS = mx.random.randint(0, 50, (2, 9), key=mx.random.key(1)).astype(mx.int32)


@pytest.fixture
def decoder():
    mx.random.seed(0)
    args = llama.ModelArgs(
        model_type="llama", num_attention_heads=2, rms_norm_eps=1e-5, num_key_value_heads=1, **SIZES
    )
    return llama.Model(args)


@pytest.fixture
def windowed():
    mx.random.seed(0)
    args = gemma3_text.ModelArgs(
        model_type="gemma3_text", num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        sliding_window=4, sliding_window_pattern=2, **SIZES,
    )  # fmt: skip
    return gemma3_text.Model(args)


def test_right_decoders(decoder, windowed):
    for model in (decoder, windowed):
        assert takes_cache(model)
        assert decoded(model, [IDS])["gaps"][0] < 1e-5
        assert padded(model, [IDS])["gaps"][0] < 1e-5
    assert not takes_cache(nn.Linear(2, 2))


def test_forgotten_offset(decoder):
    for layer in decoder.layers:
        rope = layer.self_attn.rope
        layer.self_attn.rope = lambda x, offset=0, rope=rope: rope(x)
    assert decoded(decoder, [IDS])["gaps"][0] > 1e-3


def test_wrong_kind_of_cache(windowed, monkeypatch):
    monkeypatch.setattr(type(windowed), "make_cache", lambda self: [KVCache() for _ in self.layers])
    monkeypatch.setattr(
        "mlx_lm.models.gemma3_text.create_attention_mask",
        lambda h, cache=None, window_size=None: "causal" if h.shape[1] > 1 else None,
    )
    assert padded(windowed, [IDS])["gaps"][0] > 1e-3
