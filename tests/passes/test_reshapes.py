"""merge_reshapes, drop_broadcasts and drop_kept_dims."""

import pytest
import torch

from porter.passes.cleanup import remove_dead
from porter.passes.reshapes import drop_broadcasts, drop_kept_dims, drop_undone, merge_reshapes
from tests.passes.programs import SDPA, Fn, ops, program_of, rewritten, x


def test_a_reshape_of_a_reshape_is_one():
    program, (count, _) = rewritten(
        lambda a: a.reshape(6, 4).reshape(3, 8).reshape(24),
        [x(2, 3, 4)],
        merge_reshapes,
        remove_dead,
    )
    assert count == 2
    assert ops(program) == {".reshape": 1}


def test_a_reshape_back_and_forth_is_none():
    program, _ = rewritten(
        lambda a: a.reshape(6, 4).reshape(2, 3, 4).tanh(), [x(2, 3, 4)], merge_reshapes, remove_dead
    )
    assert ops(program) == {"mx.tanh": 1}


def test_an_axis_that_goes_and_comes_back_was_there_all_the_time():
    def mask(a):
        row = a.squeeze(1)
        return row.tanh(), row[:, None].exp(), row.reshape(2, 1, 6).sin()

    program, (count, _) = rewritten(mask, [x(2, 1, 6)], drop_undone, remove_dead)
    assert count == 2
    assert ops(program) == {".squeeze": 1, "mx.tanh": 1, "mx.exp": 1, "mx.sin": 1}


def test_a_part_that_is_all_there_is_is_the_whole():
    program, _ = rewritten(lambda a: a[0:1][:, :6].tanh(), [x(1, 6, 4)], drop_undone, remove_dead)
    assert ops(program) == {"mx.tanh": 1}
    program, _ = rewritten(lambda a: a[:, :5].tanh(), [x(1, 6, 4)], drop_undone, remove_dead)
    assert ops(program) == {"[]": 1, "mx.tanh": 1}


def test_a_reshape_that_is_read_twice_stays_for_its_other_reader():
    program, _ = rewritten(
        lambda a: ((r := a.reshape(6, 4)).reshape(24), r.sum(0)),
        [x(2, 3, 4)],
        merge_reshapes,
        remove_dead,
    )
    assert ops(program)[".reshape"] == 2


def test_a_transpose_between_them_stays():
    program, _ = rewritten(
        lambda a: a.reshape(6, 4).t().reshape(24), [x(2, 3, 4)], merge_reshapes, remove_dead
    )
    assert ops(program) == {".reshape": 2, ".transpose": 1}


@pytest.mark.parametrize("holds", [True, False])
def test_reshapes_in_different_modules_stay(holds):
    """Else a child would read an array from before its caller's; one without parameters becomes a part of its caller."""

    class Child(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(24)) if holds else 1.5

        def forward(self, a):
            return a.reshape(24) * self.scale

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.child = Child()

        def forward(self, a):
            return self.child(a.reshape(6, 4))

    program, (count, _) = rewritten(Net(), [x(2, 3, 4)], merge_reshapes, remove_dead)
    assert ops(program)[".reshape"] == 1 + holds
    assert count == 1 - holds


BROADCASTS = {
    "add": lambda a, b: a.expand(2, 3, 4) + b,
    "multiply, the other order": lambda a, b: b * a.expand(2, 3, 4),
    "two readers": lambda a, b: (w := a.expand(2, 3, 4)) + b * w,
    "where": lambda a, b: torch.where(b > 0, a.expand(2, 3, 4), b),
}


@pytest.mark.parametrize("forward", BROADCASTS.values(), ids=BROADCASTS)
def test_an_expand_goes_where_readers_broadcast(forward):
    program, (count,) = rewritten(Fn(forward), [x(1, 3, 1), x(2, 3, 4)], drop_broadcasts)
    assert count == 1
    assert ops(program)["mx.broadcast_to"] == 0


def test_an_expand_of_an_expand_is_one():
    def forward(a, b):
        return torch.cat([a.expand(5, 3, 4)[:1].expand(2, 3, 4), b])

    program, _ = rewritten(Fn(forward), [x(1, 3, 1), x(2, 3, 4)], drop_broadcasts, remove_dead)
    assert ops(program) == {"mx.broadcast_to": 1, "mx.concatenate": 1}


@pytest.mark.parametrize(
    "forward", [lambda a: a.expand(5, 3, 4)[:, 1:], lambda a: a.expand(5, 3, 4)[1]]
)
def test_a_part_of_what_was_there_before_an_expand_stays(forward):
    program, (count, _) = rewritten(Fn(forward), [x(1, 3, 1)], drop_broadcasts, remove_dead)
    assert (count, ops(program)["[]"]) == (0, 1)


KEPT = {
    "the result would be narrower": lambda a, b: (a.expand(2, 3, 4).tanh(), b * 2),
    "both are narrow": lambda a, b: a.expand(2, 3, 4) + b[:1],
    "a reduction counts": lambda a, b: a.expand(2, 3, 4).sum(0) + b[0],
    "a concatenation": lambda a, b: torch.cat([a.expand(2, 3, 4), b]),
    "returned": lambda a, b: (w := a.expand(2, 3, 4), w + b),
    "one reader needs it": lambda a, b: (w := a.expand(2, 3, 4)) + b + w.sum(0),
    "a matmul": lambda a, b: a.expand(2, 3, 4) @ b.mT,
}


@pytest.mark.parametrize("forward", KEPT.values(), ids=KEPT)
def test_an_expand_stays_where_its_width_matters(forward):
    program, (count,) = rewritten(Fn(forward), [x(1, 3, 1), x(2, 3, 4)], drop_broadcasts)
    assert count == 0
    assert ops(program)["mx.broadcast_to"] == 1


def test_an_expanded_mask_goes_and_expanded_keys_stay():
    def forward(q, k, mask):
        return torch.nn.functional.scaled_dot_product_attention(
            q, k.expand(2, 3, 5, 4), k.expand(2, 3, 5, 4), attn_mask=mask.expand(2, 1, 5, 5)
        )

    program, (count,) = rewritten(
        forward, [x(2, 3, 5, 4), x(1, 3, 5, 4), x(2, 1, 1, 5)], drop_broadcasts
    )
    assert count == 1
    assert ops(program)[SDPA] == 1
    assert ops(program)["mx.broadcast_to"] == 2


REDUCTIONS = {
    "mean": lambda a: a.mean((1, 2), keepdim=True).flatten(1),
    "sum": lambda a: a.sum(1, keepdim=True).squeeze(1),
    "relu between": lambda a: a.mean((1, 2), keepdim=True).relu().flatten(1),
    "max": lambda a: a.amax((1, 2), keepdim=True).reshape(2, 5),
}


@pytest.mark.parametrize("forward", REDUCTIONS.values(), ids=REDUCTIONS)
def test_axes_that_are_kept_to_be_removed_are_not_kept(forward):
    program, (count,) = rewritten(Fn(forward), [x(2, 3, 4, 5)], drop_kept_dims)
    assert count == 1
    assert not {".reshape", ".squeeze"} & set(ops(program))
    assert all("keepdims" not in node.kwargs for node in program.nodes)


STILL_KEPT = {
    "the last axis goes": lambda a: a.mean((2, 3), keepdim=True).relu().flatten(1),
    "read twice": lambda a: (m := a.mean((2, 3), keepdim=True)).flatten(1).sum() + a - m,
    "returned": lambda a: (m := a.mean((2, 3), keepdim=True), m.flatten(1)),
    "another shape": lambda a: a.mean((2, 3), keepdim=True).reshape(3, 2),
    "one axis stays": lambda a: a.mean((2, 3), keepdim=True).squeeze(3),
    "softmax between": lambda a: a.sum((2, 3), keepdim=True).softmax(1).flatten(1),
}


@pytest.mark.parametrize("forward", STILL_KEPT.values(), ids=STILL_KEPT)
def test_axes_that_something_needs_are_kept(forward):
    _program, (count,) = rewritten(Fn(forward), [x(2, 3, 4, 5)], drop_kept_dims)
    assert count == 0


def test_fixtures_hold_what_the_passes_look_for():
    """The patterns above are about these ops; if a lowering writes others, the tests would prove nothing."""
    assert ops(program_of(lambda a: a.expand(2, 3), x(1, 3)).program) == {"mx.broadcast_to": 1}
    lowered = program_of(lambda a: a.mean(1, keepdim=True).flatten(0), x(2, 3)).program
    assert ops(lowered)["mx.mean"] == 1
    assert lowered.nodes[0].kwargs["keepdims"] is True


def test_index_arrays_broadcast_by_themselves():
    """`points[batch_indices, idx]`, as of PointNet++."""

    def forward(points, idx):
        rows = torch.arange(points.shape[0]).view(-1, 1, 1).repeat(1, *idx.shape[1:])
        return points[rows, idx, :]

    idx = torch.randint(0, 7, (2, 3, 4))
    program, (count,) = rewritten(Fn(forward), [x(2, 7, 3), idx], drop_broadcasts)
    assert count == 1
    assert "mx.tile" not in ops(program)


def test_the_only_index_array_keeps_its_copies():
    program, (count,) = rewritten(
        Fn(lambda a: a[torch.arange(2).view(2, 1).repeat(1, 3)]), [x(4, 3)], drop_broadcasts
    )
    assert count == 0
    assert "mx.tile" in ops(program)


def test_an_axis_that_is_repeated_is_no_broadcast():
    program, (count,) = rewritten(
        Fn(lambda a, b: a.repeat(1, 2) + b), [x(2, 3), x(2, 6)], drop_broadcasts
    )
    assert count == 0
    assert "mx.tile" in ops(program)


def test_what_is_done_to_an_expanded_array_alone_is_done_before():
    def forward(rho, a, b):
        rho = rho.expand(a.shape[0], -1, -1)
        return rho * a + (1 - rho) * b

    program, (count,) = rewritten(
        Fn(forward), [x(1, 3, 1), x(2, 3, 4), x(2, 3, 4)], drop_broadcasts
    )
    assert count == 3
    assert "mx.broadcast_to" not in ops(program)
    shapes = [node.output.shape for node in program.nodes if node.op == "-"]
    assert shapes == [(1, 3, 1)]
