"""fuse_attention: scales before and after, masks; and what must stay spelled out. What masks are made of: test_score_masks."""

import pytest
import torch
from torch import nn

from porter.passes.fuse.fold_scale import fold_scale
from porter.passes.fuse.fuse_attention import CAPPED, fuse_attention
from porter.passes.fuse.misses import sentences
from porter.passes.inline_scalars import inline_scalars
from tests.passes.programs import SDPA, Fn, ops, rewritten, x
from tests.random_modules.parity import port_of

B, H, L, D = 2, 3, 5, 4
Q, K, V = x(B, H, L, D, seed=1), x(B, H, L, D, seed=2), x(B, H, L, D, seed=3)
MASK = x(B, 1, 1, L, seed=4) * 3
PAIRS = x(1, H, L, L, seed=5)


def t(k):
    return k.transpose(-2, -1)


FUSED = {
    "no scale": (lambda q, k, v, m, p: (q @ t(k)).softmax(-1) @ v, 1.0, False),
    "scaled after": (lambda q, k, v, m, p: (q @ t(k) * 0.5).softmax(-1) @ v, 0.5, False),
    "divided after": (lambda q, k, v, m, p: (q @ t(k) / 4).softmax(-1) @ v, 0.25, False),
    "scaled queries": (lambda q, k, v, m, p: ((q * 0.5) @ t(k)).softmax(-1) @ v, 0.5, False),
    "scaled keys": (lambda q, k, v, m, p: (q @ t(k * 0.5)).softmax(-1) @ v, 0.5, False),
    "scaled both": (lambda q, k, v, m, p: ((q * 0.5) @ t(k / 2) * 3).softmax(-1) @ v, 0.75, False),
    "masked": (lambda q, k, v, m, p: (q @ t(k) * 0.5 + m).softmax(-1) @ v, 0.5, True),
    "mask first": (lambda q, k, v, m, p: (m + q @ t(k)).softmax(-1) @ v, 1.0, True),
    "two masks": (lambda q, k, v, m, p: (q @ t(k) * 0.5 + p + m).softmax(-1) @ v, 0.5, True),
    "a mask of two axes": (lambda q, k, v, m, p: (q @ t(k) + p[0, 0]).softmax(-1) @ v, 1.0, True),
    "features first": (lambda q, k, v, m, p: t(t(v) @ t((q @ t(k)).softmax(-1))), 1.0, False),
    "by einsum": (
        lambda q, k, v, m, p: torch.einsum(
            "bhij,bhjd->bhid", torch.einsum("bhid,bhjd->bhij", q * 0.5, k).softmax(-1), v
        ),
        0.5,
        False,
    ),
    "by einsum, heads second": (
        lambda q, k, v, m, p: torch.einsum(
            "bhnm,bmhd->bnhd",
            torch.einsum("bnhd,bmhd->bhnm", q.transpose(1, 2), k.transpose(1, 2)).softmax(-1),
            v.transpose(1, 2),
        ),
        1.0,
        False,
    ),
    "softmax over axis 3": (lambda q, k, v, m, p: (q @ t(k)).softmax(3) @ v, 1.0, False),
}


@pytest.mark.parametrize(("forward", "scale", "masked"), FUSED.values(), ids=FUSED)
def test_attention_is_found(forward, scale, masked):
    program, (count,) = rewritten(Fn(forward), [Q, K, V, MASK, PAIRS], fuse_attention)
    assert count == 1
    call = next(node for node in program.nodes if node.op == SDPA)
    assert call.kwargs["scale"] == pytest.approx(scale, rel=1e-12)
    assert (call.kwargs["mask"] is not None) == masked
    assert not {"@", "mx.softmax", "*", "/"} & set(ops(program))


SCALED_MASKS = {
    "scale after the mask": lambda q, k, v, m, p: ((q @ t(k) + m) * 0.5).softmax(-1) @ v,
    "and before": lambda q, k, v, m, p: ((q @ t(k) * 2 + m) / 4).softmax(-1) @ v,
}


@pytest.mark.parametrize("forward", SCALED_MASKS.values(), ids=SCALED_MASKS)
def test_a_scale_after_the_mask_scales_the_mask(forward):
    program, (count,) = rewritten(Fn(forward), [Q, K, V, MASK, PAIRS], fuse_attention)
    assert count == 1
    assert next(n for n in program.nodes if n.op == SDPA).kwargs["scale"] == 0.5


@pytest.mark.parametrize("masked", [False, True])
def test_soft_cap(masked):
    def forward(q, k, v, m, p):
        scores = 5 * torch.tanh(q @ t(k) * 0.5 / 5)
        return (scores + m if masked else scores).softmax(-1) @ v

    program, (count,) = rewritten(Fn(forward), [Q, K, V, MASK, PAIRS], fuse_attention)
    assert count == 1
    call = next(node for node in program.nodes if node.op == CAPPED)
    assert (call.kwargs["scale"], call.kwargs["cap"]) == (pytest.approx(0.5), 5.0)


@pytest.mark.parametrize("shifted", [False, True])
def test_sinks(shifted):
    def forward(q, k, v, m, sinks):
        scores = q @ t(k) * 0.5 + m
        column = sinks.reshape(1, -1, 1, 1).expand(q.shape[0], -1, q.shape[-2], -1)
        joined = torch.cat([scores, column], dim=-1)
        if shifted:
            joined = joined - joined.max(dim=-1, keepdim=True).values
        return joined.softmax(-1)[..., :-1] @ v

    program, (count,) = rewritten(
        Fn(forward, torch.tensor([0.5, -1.0, 2.0])), [Q, K, V, MASK], fuse_attention
    )
    assert count == 1
    assert next(n for n in program.nodes if n.op == SDPA).kwargs["sinks"].shape == (H,)


SPELLED_OUT = {
    "softmax over queries": lambda q, k, v, m, p: (q @ t(k)).softmax(-2) @ v,
    "softmax over heads": lambda q, k, v, m, p: (q @ t(k)).softmax(1) @ v,
    "weights changed": lambda q, k, v, m, p: ((q @ t(k)).softmax(-1) * p) @ v,
    "no softmax": lambda q, k, v, m, p: (q @ t(k)) @ v,
    "values first": lambda q, k, v, m, p: t(v) @ (q @ t(k)).softmax(-1),
    "scores returned": lambda q, k, v, m, p: ((s := (q @ t(k)) * 0.5).softmax(-1) @ v, s),
    "weights returned": lambda q, k, v, m, p: ((w := (q @ t(k)).softmax(-1)) @ v, w),
    "weights read": lambda q, k, v, m, p: ((w := (q @ t(k)).softmax(-1)) @ v, w.sum(-2)),
    "masked scores read": lambda q, k, v, m, p: ((s := q @ t(k) + m).softmax(-1) @ v, s.amax(-1)),
    "raw scores read": lambda q, k, v, m, p: (
        ((s := q @ t(k)) * 0.5 + m).softmax(-1) @ v,
        s.sum(-1),
    ),
}


@pytest.mark.parametrize("forward", SPELLED_OUT.values(), ids=SPELLED_OUT)
def test_what_is_no_plain_attention_stays(forward):
    program, (count,) = rewritten(Fn(forward), [Q, K, V, MASK, PAIRS], fuse_attention)
    assert count == 0
    assert ops(program)[SDPA] == 0
    assert ops(program)["@"] == 2


def test_three_axes_get_a_fourth():
    """Heads folded into the batch, as torch.bmm wants them: MLX's call wants four axes."""
    program, (count,) = rewritten(
        lambda q, k, v, m: (q @ t(k) * 0.5 + m).softmax(-1) @ v,
        [Q[0], K[0], V[0], MASK[0]],
        fuse_attention,
    )
    assert count == 1
    assert ops(program) == {SDPA: 1, "mx.expand_dims": 4, "[]": 1}


def test_a_temperature_for_each_head_goes_to_the_queries():
    program, (count,) = rewritten(
        Fn(lambda q, k, v, m, p: (q @ t(k) * p[:, :, :1, :1] + m).softmax(-1) @ v),
        [Q, K, V, MASK, PAIRS],
        fuse_attention,
    )
    assert count == 1
    assert ops(program)["mx.softmax"] == 0


def test_keys_that_are_kept_transposed():
    program, (count,) = rewritten(
        lambda q, k, v: (q @ k).softmax(-1) @ v, [Q, t(K).contiguous(), V], fuse_attention
    )
    assert count == 1
    assert ops(program) == {SDPA: 1, ".transpose": 1}


MISSES = {
    "something else reads its weights": SPELLED_OUT["weights returned"],
    "something else reads its scores": SPELLED_OUT["scores returned"],
    "* stands between its softmax and the values": SPELLED_OUT["weights changed"],
    "its softmax is not over the keys": SPELLED_OUT["softmax over queries"],
}


@pytest.mark.parametrize(("reason", "forward"), MISSES.items())
def test_a_near_miss_says_why(reason, forward):
    program, _ = rewritten(Fn(forward), [Q, K, V, MASK, PAIRS], fuse_attention)
    assert list(program.misses) == [("attention", reason)]
    (sentence,) = sentences(program)
    assert sentence.startswith(f"attention stayed spelled out: {reason} (")


def test_unequal_lengths_and_grouped_values():
    """Queries and keys differ in number, values in width."""
    program, (count,) = rewritten(
        lambda q, k, v: (q @ t(k)).softmax(-1) @ v,
        [x(2, 3, 5, 4), x(2, 3, 7, 4, seed=1), x(2, 3, 7, 6, seed=2)],
        fuse_attention,
    )
    assert count == 1
    assert program.output_values()[0].shape == (2, 3, 5, 6)


@pytest.mark.parametrize(("hidden", "boolean"), [(-1e9, True), (-1e4, False)])
def test_a_mask_that_adds_zero_or_hides_is_boolean(hidden, boolean):
    def forward(q, k, v, keep):
        mask = torch.where(keep > 0, torch.zeros(()), hidden)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    keep = torch.ones(1, 1, 1, 5)
    keep[..., 3:] = 0
    args = [x(1, 2, 5, 4), x(1, 2, 5, 4), x(1, 2, 5, 4), keep]
    program, _ = rewritten(forward, args, inline_scalars, fuse_attention)
    (node,) = [n for n in program.nodes if n.op == SDPA]
    assert (node.kwargs["mask"].dtype == "bool") == boolean


SCALED_FIRST = {
    "behind views": lambda q: (q * 0.5).flatten(1, 2).reshape(B, H, L, D),
    "divided": lambda q: (q / 2).transpose(1, 2).reshape(B, L, H, D).transpose(1, 2),
    "number first": lambda q: (0.5 * q.flatten(2)).reshape(B, H, L, D),
    "a part of it": lambda q: (0.5 * torch.cat([q, q]))[:B].contiguous(),
}


@pytest.mark.parametrize("queries", SCALED_FIRST.values(), ids=SCALED_FIRST)
def test_a_scale_of_the_queries_joins_attention_s_own(queries):
    program, (_, count) = rewritten(
        Fn(lambda q, k, v: (queries(q) @ t(k)).softmax(-1) @ v),
        [Q, K, V],
        fuse_attention,
        fold_scale,
    )
    assert count == 1
    assert next(n for n in program.nodes if n.op == SDPA).kwargs["scale"] == 0.5
    assert not {"*", "/"} & set(ops(program))


class SharedValues(torch.nn.Module):
    """The heads of the temporal fusion transformer: keys of their own, one head of values."""

    def forward(self, q, k, v):
        scores = q @ k.transpose(-1, -2) * 0.5
        return torch.softmax(scores, -1) @ v.unsqueeze(1)


def test_values_that_heads_share_are_no_call():
    shapes = (2, 4, 5, 4), (2, 4, 5, 4), (2, 5, 4)
    inputs = [torch.randn(*s) for s in shapes]
    ported = port_of(SharedValues, inputs)
    ported.check(*inputs)
    assert "scaled_dot_product_attention" not in ported.port.model_py


class ByLength(nn.Module):
    """Scores divided by the root of the number of tokens: Mega."""

    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, a):
        length = a.shape[1]
        scores = self.q(a) @ self.k(a).transpose(1, 2) / length**0.5
        return scores.softmax(-1) @ a


def test_a_scale_by_the_length_holds_at_any():
    ported = port_of(ByLength, [torch.randn(2, 9, 6)])
    ported.check(torch.randn(3, 13, 6))
    assert "scaled_dot_product_attention" in ported.port.model_py
    assert ported.port.inputs[0]["shape"] == ["batch", "length", 6]


class OfPatches(nn.Module):
    """Attention within each patch, with five axes, and a learned temperature."""

    def __init__(self):
        super().__init__()
        self.qkv, self.temperature = nn.Linear(6, 18), nn.Parameter(torch.tensor(0.3))

    def forward(self, a):
        b, p, n, _ = a.shape
        q, k, v = self.qkv(a).view(b, p, n, 3, 2, 3).permute(3, 0, 1, 4, 2, 5)
        scores = q @ k.transpose(-1, -2) * self.temperature.exp()
        return (scores.softmax(-1) @ v).transpose(2, 3).reshape(b, p, n, 6)


def test_attention_in_parts_of_a_sample_with_a_learned_scale():
    ported = port_of(OfPatches, [torch.randn(2, 3, 5, 6)])
    ported.check(torch.randn(3, 3, 7, 6))
    assert "scaled_dot_product_attention" in ported.port.model_py
    assert "softmax" not in ported.port.model_py


def test_queries_of_one_sample_are_given_to_all_and_keys_stay():
    """Learned queries (a Q-Former's) look at the features of each sample."""

    def forward(q, k, v):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=0.5)

    program, _ = rewritten(forward, [x(1, 2, 3, 4), x(5, 2, 7, 4), x(5, 2, 7, 4)])
    assert [node.op for node in program.nodes] == ["mx.broadcast_to", SDPA]


@pytest.mark.parametrize(
    "shape", [(1, 1, H, 4, 4), (2, 3, 1, 4, 4), (1, 3, 1, 1, 4), (3, 1, 4, 4), (4,)]
)
def test_a_mask_of_attention_in_parts_goes_with_them(shape):
    """LongT5's and BigBird's blocks: a bias for all of them, or a mask of each."""
    q, k, v = (x(2, 3, H, 4, D, seed=s) for s in (1, 2, 3))

    def forward(q, k, v, mask):
        return (q @ t(k) + mask).softmax(-1) @ v

    program, (count,) = rewritten(Fn(forward), [q, k, v, x(*shape, seed=4)], fuse_attention)
    assert count == 1
    assert ops(program)[SDPA] == 1


@pytest.mark.parametrize("axis", [1, 2])
def test_heads_that_are_repeated_before_or_behind_their_turn_are_shared(axis):
    def forward(q, k, v):
        if axis == 1:
            k, v = (a.transpose(1, 2).repeat_interleave(2, 1) for a in (k, v))
        else:
            k, v = (a.repeat_interleave(2, 2).transpose(1, 2) for a in (k, v))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=0.5)

    q, k, v = torch.randn(2, 4, 5, 8), torch.randn(2, 6, 2, 8), torch.randn(2, 6, 2, 8)
    net = port_of(lambda: Fn(forward), (q, k, v))
    net.check(q, k, v)
    assert "mx.repeat" not in net.port.model_py
