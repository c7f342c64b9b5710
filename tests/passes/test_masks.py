"""sight_of and fuse_causal: masks that are made of positions."""

import pytest
import torch
from torch.nn import functional

from porter.passes.constants import simplify_constants
from porter.passes.fuse.fuse_causal import fuse_causal
from porter.passes.masks import Sight, sight_of
from tests.passes.programs import SDPA, program_of, rewritten, x

DYNAMIC = {"args_0": {0: "batch", 2: "length"}}


def _positions(a):
    index = torch.arange(a.shape[2])
    return index[:, None], index[None]


def _masked(rule, added=False):
    def forward(a):
        mask = rule(*_positions(a))
        if added:
            mask = torch.where(mask, 0.0, torch.finfo(torch.float32).min)
        return functional.scaled_dot_product_attention(a, a, a, attn_mask=mask)

    return forward


MASKS = {
    "causal": (lambda q, k: k <= q, Sight()),
    "window": (lambda q, k: (k <= q) & (k > q - 3), Sight(window=3)),
    "large window": (lambda q, k: (k <= q) & (q - k < 4096), Sight(window=4096)),
    "chunks": (lambda q, k: (k <= q) & (q // 5 == k // 5), Sight(chunk=5)),
    "both sides": (lambda q, k: (k - q).abs() < 3, None),
    "strictly before": (lambda q, k: (k < q) | (k == 0), None),
}


@pytest.mark.parametrize(("rule", "sight"), MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("added", [False, True], ids=["boolean", "added"])
def test_sight(rule, sight, added):
    lowered = program_of(_masked(rule, added), x(2, 2, 6, 4), dynamic=DYNAMIC)
    node = next(n for n in lowered.program.nodes if n.op == SDPA)
    assert sight_of(lowered.program, node.kwargs["mask"]) == sight


@pytest.mark.parametrize("name", ["causal", "window"])
def test_fuse_causal(name):
    program, counts = rewritten(
        _masked(MASKS[name][0]), [x(2, 2, 6, 4)], simplify_constants, fuse_causal, dynamic=DYNAMIC
    )
    assert counts[1] == (name == "causal")
    masks = [n.kwargs["mask"] for n in program.nodes if n.op == SDPA]
    assert (masks == ["causal"]) == (name == "causal")
