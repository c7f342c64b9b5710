"""simplify_constants: masks that keep all, indexing by a count, stored positions."""

import pytest
import torch

from porter.passes.constants import simplify_constants
from tests.passes.programs import Fn, ops, rewritten, x

IDENTITIES = {
    "add zeros": lambda a: a + torch.zeros(3),
    "subtract zeros": lambda a: a - torch.zeros(2, 3),
    "multiply by ones": lambda a: torch.ones(3) * a,
    "divide by ones": lambda a: a / torch.ones(2, 1),
    "add 0": lambda a: a + 0,
    "repeated once": lambda a: a.repeat_interleave(1, dim=0) + 0,
    "ones sliced and widened": lambda a: a * torch.ones(5)[None, :3].expand(2, 3),
}


@pytest.mark.parametrize("forward", IDENTITIES.values(), ids=IDENTITIES)
def test_neutral_operands_go(forward):
    program, (changed,) = rewritten(Fn(forward), [x(2, 3)], simplify_constants)
    assert changed
    assert not program.nodes


STAY = {
    "add ones": lambda a: a + torch.ones(3),
    "multiply by zeros": lambda a: a * torch.zeros(3),
    "zeros minus": lambda a: torch.zeros(3) - a,
    "ones divided by": lambda a: torch.ones(3) / a,
    "add 1": lambda a: a + 1,
    "times 2": lambda a: a * 2,
}


@pytest.mark.parametrize("forward", STAY.values(), ids=STAY)
def test_operands_that_are_not_neutral_stay(forward):
    program, _ = rewritten(Fn(forward), [x(2, 3)], simplify_constants)
    assert program.nodes


def test_ones_times_a_number_are_the_number():
    program, _ = rewritten(
        lambda a: torch.where(a > 0, a, torch.ones(2, 3) * 1e10), [x(2, 3)], simplify_constants
    )
    assert [node.args[2] for node in program.nodes if node.op == "mx.where"] == [1e10]


def test_a_neutral_operand_that_widens_leaves_the_width():
    program, _ = rewritten(lambda a: a + torch.zeros(4, 2, 3), [x(2, 3)], simplify_constants)
    assert ops(program) == {"mx.broadcast_to": 1}
    assert program.output_values()[0].shape == (4, 2, 3)


def test_a_neutral_operand_that_promotes_stays():
    """int + 0.0 is a float: the sum is also a cast."""
    program, _ = rewritten(
        lambda a: a + torch.zeros(3), [torch.arange(6).reshape(2, 3)], simplify_constants
    )
    assert program.output_values()[0].dtype == "float32"
    assert program.nodes


def test_a_mask_of_ones_keeps_all():
    def forward(mask):
        keep = torch.ones(2, 3, dtype=torch.bool) & (mask > 0)
        return keep | torch.zeros(2, 3, dtype=torch.bool)

    program, _ = rewritten(forward, [x(2, 3)], simplify_constants)
    assert ops(program) == {">": 1}


def test_a_mask_of_zeros_drops_all():
    program, _ = rewritten(
        lambda a: (a > 0) & torch.zeros(3, dtype=torch.bool), [x(2, 3)], simplify_constants
    )
    assert ops(program) == {"mx.zeros": 1}


def test_positions_from_a_start_are_never_negative():
    program, _ = rewritten(
        lambda a: (torch.arange(a.shape[1]) >= 0) & (a > 0), [x(2, 3)], simplify_constants
    )
    assert ops(program) == {">": 1}


def test_positions_that_may_be_negative_are_compared():
    program, _ = rewritten(
        lambda a: (torch.arange(-1, 2) >= 0) & (a > 0), [x(2, 3)], simplify_constants
    )
    assert ops(program)[">="] == 1


def test_gathering_by_counts_is_placing_axes():
    """How transformers reads a padding mask: mask[batch, positions] for every query."""

    def forward(mask):
        batch = torch.arange(mask.shape[0])[:, None, None, None]
        positions = torch.arange(mask.shape[1])[None, None, None, :]
        return mask[batch, positions]

    program, (changed,) = rewritten(forward, [x(2, 3)], simplify_constants)
    assert changed
    assert ops(program) == {"[]": 1}
    key = program.nodes[0].attrs["key"]
    assert key == (slice(None), None, None, slice(None))


def test_gathering_everything_in_order_is_the_array():
    """Counts of fewer axes are read along the last ones."""

    def forward(m):
        return m[torch.arange(m.shape[0])[:, None], torch.arange(m.shape[1])] + 1

    program, (changed,) = rewritten(forward, [x(2, 3)], simplify_constants)
    assert changed
    assert ops(program) == {"+": 1}


PARTIAL = {
    "a part": lambda m: m[torch.arange(2)[:, None], torch.arange(2)[None, :]],
    "from 1": lambda m: m[torch.arange(2)[:, None], torch.arange(1, 3)[None, :]],
    "the diagonal": lambda m: m[torch.arange(2), torch.arange(2)],
    "axes swapped": lambda m: m[torch.arange(2)[None, :], torch.arange(3)[:, None]],
}


@pytest.mark.parametrize("forward", PARTIAL.values(), ids=PARTIAL)
def test_gathering_less_than_everything_stays_right(forward):
    rewritten(Fn(forward), [x(2, 3)], simplify_constants)  # compares with torch


class Embedding(torch.nn.Module):
    """BERT's positions: a buffer of counts, sliced to the length."""

    def __init__(self, persistent: bool, first: int = 0, offset: int = 0):
        super().__init__()
        self.table = torch.nn.Embedding(16, 4)
        self.offset = offset
        self.register_buffer("ids", torch.arange(first, first + 8)[None], persistent=persistent)

    def forward(self, a):
        positions = self.ids[:, self.offset : a.shape[1] + self.offset]
        return a + self.table(positions)


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize(("first", "offset"), [(0, 0), (2, 0), (0, 3), (2, 3)])
def test_stored_positions_become_an_arange(persistent, first, offset):
    program, _ = rewritten(
        Embedding(persistent, first, offset),
        [x(2, 5, 4)],
        simplify_constants,
        dynamic={"a": {1: "length"}},
    )
    assert ops(program)["mx.arange"] == 1
    assert not any(v.path == "ids" for node in program.nodes for v in node.inputs())


def test_stored_positions_that_are_read_whole_become_an_arange():
    class Whole(Embedding):
        def forward(self, a):
            return a + self.table(self.ids)

    program, _ = rewritten(Whole(False), [x(2, 8, 4)], simplify_constants)
    assert ops(program)["mx.arange"] == 1


def test_stored_numbers_that_do_not_count_stay():
    class Buckets(Embedding):
        def __init__(self):
            super().__init__(False)
            self.ids = torch.tensor([[0, 1, 2, 4, 4, 5, 6, 7]])

        def forward(self, a):
            return a + self.table(self.ids)

    program, _ = rewritten(Buckets(), [x(2, 8, 4)], simplify_constants)
    assert ops(program)["mx.arange"] == 0


def test_counts_hold_at_another_length():
    """The arange follows the symbolic length."""
    program, _ = rewritten(
        Embedding(True), [x(2, 5, 4)], simplify_constants, dynamic={"a": {1: "length"}}
    )
    arange = next(node for node in program.nodes if node.op == "mx.arange")
    assert not isinstance(arange.args[-1], int)


NUMBERS = {
    "minimum": lambda a: torch.minimum(a, torch.full((2, 3), 0.5)),
    "maximum of a smaller fill": lambda a: torch.maximum(a, torch.zeros(3)),
    "where": lambda a: torch.where(a > 0, a, torch.full((2, 3), -1.0)),
}


@pytest.mark.parametrize("forward", NUMBERS.values(), ids=NUMBERS)
def test_a_fill_is_written_as_its_number(forward):
    program, (changed,) = rewritten(Fn(forward), [x(2, 3)], simplify_constants)
    assert changed
    assert not {"mx.full", "mx.zeros"} & set(ops(program))


def test_a_fill_that_gives_the_result_its_shape_stays():
    wider = Fn(lambda a: torch.minimum(a, torch.full((4, 2, 3), 0.5)))
    program, _ = rewritten(wider, [x(2, 3)], simplify_constants)
    assert "mx.full" in ops(program)
