"""remove_dead, share_equal and drop_empty."""

import torch

from porter.passes.cleanup import drop_empty, remove_dead, share_equal
from tests.passes.programs import ops, rewritten, x


def test_what_nothing_reads_goes():
    def forward(a):
        unused = a.exp().sum()
        unused.abs()
        return a.tanh()

    program, (removed,) = rewritten(forward, [x(2, 3)], remove_dead)
    assert ops(program) == {"mx.tanh": 1}
    assert removed == 3


def test_outputs_stay_even_when_nothing_else_reads_them():
    program, (removed,) = rewritten(lambda a: (a.tanh(), a.exp()), [x(2, 3)], remove_dead)
    assert ops(program) == {"mx.tanh": 1, "mx.exp": 1}
    assert removed == 0


def test_one_used_output_of_many_keeps_the_node():
    program, _ = rewritten(lambda a: a.chunk(3, dim=1)[1], [x(2, 6)], remove_dead)
    assert ops(program)["mx.split"] + ops(program)["[]"] == 1


def test_equal_computations_are_done_once():
    program, (dropped,) = rewritten(lambda a: a.tanh() * 2 + a.tanh() * 2, [x(2, 3)], share_equal)
    assert ops(program) == {"mx.tanh": 1, "*": 1, "+": 1}
    assert dropped == 2


def test_casts_to_several_types_stay_apart():
    def forward(a):
        kept = a > 0
        return kept.float().sum(1), kept.long().sum(1), kept.long().sum(0)

    program, (dropped,) = rewritten(forward, [x(2, 3)], share_equal)
    assert [node.output.dtype for node in program.nodes if node.op == ".astype"] == [
        "float32",
        "int64",
    ]
    assert dropped == 1


def test_a_sum_is_the_same_with_its_terms_in_turn():
    program, (dropped,) = rewritten(
        lambda a, b: (a + b).tanh() @ (b + a) - (a - b).tanh() @ (b - a), [x(2, 2), x(2, 2)], share_equal
    )  # fmt: skip
    assert dropped == 1
    assert ops(program)["+"] == 1


def test_computations_that_differ_by_a_number_stay():
    program, (dropped,) = rewritten(
        lambda a: a * 2 + a * 2.5 + a.sum(0) + a.sum(1)[:2], [x(2, 2)], share_equal
    )
    assert dropped == 0
    assert ops(program)["*"] == 2
    assert ops(program)["mx.sum"] == 2


def test_true_is_not_one_nor_an_int_a_float():
    """`1 == 1.0 == True` in Python; as arguments they may mean different things."""
    program, (dropped,) = rewritten(
        lambda a: (a.sum(0, keepdim=True), a.sum(0)), [torch.ones(1, 1)], share_equal
    )
    assert dropped == 0
    assert ops(program)["mx.sum"] == 2


def test_slices_are_told_apart():
    program, (dropped,) = rewritten(
        lambda a: a[:, 1:] + a[:, :-1] + a[:, 1:], [x(2, 4)], share_equal
    )
    assert ops(program)["[]"] == 2
    assert dropped == 1


def test_layers_are_never_shared():
    """Two calls of one layer are two lines of the source; sharing them would hide a call from the comparison."""
    layer = torch.nn.Linear(3, 3)

    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, a):
            return self.layer(a) + self.layer(a)

    program, (dropped,) = rewritten(Twice(), [x(2, 3)], share_equal)
    assert ops(program)["nn.Linear"] == 2
    assert dropped == 0


def test_computations_of_different_modules_stay_apart():
    class Tanh(torch.nn.Module):
        def forward(self, a):
            return a.tanh()

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = Tanh(), Tanh()

        def forward(self, a):
            return self.a(a) + self.b(a)

    program, (dropped,) = rewritten(Net(), [x(2, 3)], share_equal)
    assert ops(program)["mx.tanh"] == 2
    assert dropped == 0


def test_parts_without_elements_are_not_joined():
    program, (dropped,) = rewritten(
        lambda a: torch.cat([a.exp(), a[:, 3:]], dim=1) * 2, [x(2, 3)], drop_empty
    )
    assert dropped == 1
    assert ops(program)["mx.concatenate"] == 0
