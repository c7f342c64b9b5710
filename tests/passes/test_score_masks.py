"""score_masks: what is added to scores and what fills them, also where their axes are in parts."""

import math

import pytest
import torch

from porter.passes.fuse.fuse_attention import fuse_attention
from tests.passes.programs import SDPA, Fn, ops, rewritten, x
from tests.random_modules.parity import port_of

H, L, D = 3, 5, 4
Q, K, V = (x(2, H, L, D, seed=s) for s in (1, 2, 3))


def t(k):
    return k.transpose(-2, -1)


FILLED = {
    "what is not to be seen": lambda q, k, v, c: (q @ t(k)).masked_fill(~c, -1e9).softmax(-1) @ v,
    "zeros": lambda q, k, v, c: (q @ t(k) / 2).masked_fill(c.int() == 0, -math.inf).softmax(-1) @ v,
    "where": lambda q, k, v, c: torch.where(c, q @ t(k), -65504.0).softmax(-1) @ v,
}


@pytest.mark.parametrize("forward", FILLED.values(), ids=FILLED)
def test_filled_scores_are_a_boolean_mask(forward):
    keep = torch.ones(L, L, dtype=torch.bool).tril()
    program, (count,) = rewritten(forward, [Q, K, V, keep], fuse_attention)
    assert count == 1
    (node,) = [node for node in program.nodes if node.op == SDPA]
    assert node.kwargs["mask"].dtype == "bool"


def test_a_row_of_a_number_alone_is_an_average_beside_a_bias_too():
    def forward(q, k, v, bias, kept):
        scores = (q @ t(k) + bias).masked_fill(~(kept[:, None] & kept[:, :, None])[:, None], -1e4)
        return scores.softmax(-1) @ v

    kept = torch.tensor([[True] * L, [True, True, True, False, False]])
    net = port_of(lambda: Fn(forward), (Q, K, V, x(L, L), kept))
    net.check(Q, K, V, x(L, L), kept)
    assert "scaled_dot_product_attention" in net.port.model_py


def test_scores_filled_with_a_number_that_counts_stay():
    keep = torch.ones(L, L, dtype=torch.bool).tril()
    program, (count,) = rewritten(
        lambda q, k, v, c: (q @ t(k)).masked_fill(~c, -5.0).softmax(-1) @ v,
        [Q, K, V, keep],
        fuse_attention,
    )
    assert count == 0
    assert ops(program)["mx.softmax"] == 1


@pytest.mark.parametrize("windows", [4, 1])
def test_a_mask_over_windows_repeats_over_the_batch(windows):
    """Swin's shifted windows: (B W, H, L, L) scores, a mask for each of the W windows."""
    batch = 3
    q, k, v = (x(batch * windows, H, L, D, seed=s) for s in (1, 2, 3))
    bias, mask = x(1, H, L, L, seed=4), x(windows, L, L, seed=5) * 4

    def forward(q, k, v, bias, mask):
        attn = (q * 0.5) @ t(k) + bias
        attn = attn.view(-1, windows, H, L, L) + mask[None, :, None]
        return attn.view(-1, H, L, L).softmax(-1) @ v

    program, (count,) = rewritten(Fn(forward), [q, k, v, bias, mask], fuse_attention)
    assert count == 1
    assert ops(program)[SDPA] == 1
    assert ops(program)["mx.softmax"] == 0


def test_a_mask_over_another_axis_of_windows_stays():
    """The same shapes, but the mask belongs to the outer axis."""
    q, k, v = (x(9, H, L, D, seed=s) for s in (1, 2, 3))
    mask = x(3, L, L, seed=5) * 4

    def forward(q, k, v, mask):
        attn = (q @ t(k)).view(3, 3, H, L, L) + mask[:, None, None]
        return attn.view(9, H, L, L).softmax(-1) @ v

    program, (count,) = rewritten(Fn(forward), [q, k, v, mask], fuse_attention)
    assert count == 0
    assert ops(program)["mx.softmax"] == 1


@pytest.mark.parametrize("shape", [(2, H), (1, H), (1, 1)])
def test_relative_positions_by_rows_and_columns_are_a_mask(shape):
    """MViTv2 and SAM add a bias for the rows and one for the columns, with the scores of an image's places apart."""
    q, k, v = (x(2, H, 12, D, seed=s) for s in (1, 2, 3))
    rows, columns = x(*shape, 3, 4, 3, seed=4), x(*shape, 3, 4, 4, seed=5)

    def forward(q, k, v, rows, columns):
        attn = ((q * 0.5) @ t(k)).view(2, H, 3, 4, 3, 4)
        attn = attn + rows[..., None] + columns[..., None, :]
        return attn.view(2, H, 12, 12).softmax(-1) @ v

    program, (count,) = rewritten(Fn(forward), [q, k, v, rows, columns], fuse_attention)
    assert count == 1
    assert ops(program)["mx.softmax"] == 0


def test_a_bias_that_repeats_over_parts_of_the_keys_stays():
    q, k, v = (x(2, H, 12, D, seed=s) for s in (1, 2, 3))

    def forward(q, k, v, rows):
        attn = (q @ t(k)).view(2, H, 3, 4, 3, 4) + rows[..., None]
        return attn.view(2, H, 12, 12).softmax(-1) @ v

    rows = x(2, H, 3, 4, 3, seed=4)
    _, (count,) = rewritten(Fn(forward), [q, k, v, rows], fuse_attention)
    assert count == 0


ADDED = {
    "once": lambda s, same, near: s * 0.3 + same,
    "two": lambda s, same, near: s * 0.3 + same + near,
    "scaled after": lambda s, same, near: (s + same) * 0.3,
    "in parts": lambda s, same, near: (s.view(1, 2, 3, 5, 5) + same[None] + near[None]).view_as(s),
    "whole numbers": lambda s, same, near: s * 0.3 + (same.int() - 2 * near.int()),
}


@pytest.mark.parametrize("added", ADDED.values(), ids=ADDED)
def test_a_boolean_that_is_added_to_the_scores_hides_nothing(added):
    """As Grounding DINO's text encoder has it: torch adds 1 where it is true."""

    class Net(torch.nn.Module):
        def forward(self, q, k, v, ids):
            same = (ids[:, :, None] == ids[:, None])[:, None]
            near = ((ids[:, :, None] - ids[:, None]).abs() < 2)[:, None]
            return added(q @ t(k), same, near).softmax(-1) @ v

    arrays = [torch.randn(2, 3, 5, 4) for _ in range(3)] + [torch.randint(0, 5, (2, 5))]
    ported = port_of(Net, arrays)
    ported.check(*arrays)
    assert "scaled_dot_product_attention" in ported.port.model_py
