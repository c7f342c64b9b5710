"""Factoring: the tree of calls, lists and loops, and which blocks share a class. Every port is run and compared."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from porter.passes.factor.blocks import Block, Loop
from porter.passes.factor.classes import factor_classes
from porter.passes.factor.tree import build_tree
from tests.passes.factoring import Mlp, classes, init_of, loops, net, ported
from tests.passes.programs import program_of, x
from tests.random_modules.parity import port_of


def test_equal_blocks_are_one_class_and_a_loop():
    result = ported(net(*[lambda: Mlp(6, 8)] * 4), 2, 6)
    assert classes(result) == ["Mlp"]
    assert loops(result) == 1
    assert "for _ in range(" in result.port.model_py


def test_blocks_that_differ_by_numbers_are_one_class():
    result = ported(net(lambda: Mlp(6, 8), lambda: Mlp(6, 12), lambda: Mlp(6, 20)), 2, 6)
    assert classes(result) == ["Mlp"]
    assert loops(result) == 1
    assert "hidden: int" in init_of(result, "Mlp")


class Shift(nn.Module):
    """Numbers of a formula that no setting gives."""

    def __init__(self, by: str):
        super().__init__()
        self.fc, self.by = nn.Linear(6, 6), by

    def forward(self, a):
        return (self.fc(a) + float(self.by)).repeat_interleave(round(float(self.by)), 0)


def test_numbers_without_a_name_are_called_by_what_they_do():
    numbers = ("2.5", "3.25", "5.75")
    result = port_of(net(*[lambda by=by: Shift(by) for by in numbers]), (x(2, 6),), dynamic=None)
    result.check(x(2, 6))
    init = init_of(result, "Shift")
    assert "offset: float" in init
    assert "repeats: int" in init


def test_a_number_that_grows_evenly_is_an_expression_of_the_index():
    result = ported(net(*[lambda h=h: Mlp(6, h) for h in (8, 12, 16, 20)]), 2, 6)
    assert "i * " in init_of(result, "Model") or "* i" in init_of(result, "Model")


def test_a_number_that_doubles_is_an_expression_of_the_index():
    result = ported(net(*[lambda h=h: Mlp(6, h) for h in (8, 16, 32, 64)]), 2, 6)
    assert "8 * 2 ** i" in init_of(result, "Model")


def test_a_part_that_only_the_first_lacks_is_a_comparison_of_the_index():
    result = ported(net(*[lambda d=d: Mlp(6, 8, drop=d) for d in (False, True, True)]), 2, 6)
    assert "i > 0" in init_of(result, "Model")


def test_blocks_with_other_activations_are_one_class():
    result = ported(
        net(lambda: Mlp(6, 8, F.relu), lambda: Mlp(6, 8, F.gelu), lambda: Mlp(6, 8, F.silu)), 2, 6
    )
    assert classes(result) == ["Mlp"]
    assert "Callable" in result.port.model_py


def test_the_same_name_with_other_mathematics_is_another_class():
    class Op(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.fc, self.kind = nn.Linear(6, 6), kind

        def forward(self, a):
            return self.fc(a).sort(-1)[0] if self.kind else self.fc(a.cumsum(-1))

    result = ported(lambda: nn.Sequential(Op(0), Op(1), Op(0)), 2, 6)
    assert len(classes(result)) == 2


class Nested(nn.Module):
    def __init__(self, depth: int):
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.inner = Nested(depth - 1) if depth else None

    def forward(self, a):
        a = F.relu(self.fc(a))
        return a if self.inner is None else a + self.inner(a)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_class_inside_itself(depth):
    ported(lambda: Nested(depth), 2, 6)


def test_a_class_inside_itself_twice():
    class Tree(nn.Module):
        def __init__(self, depth):
            super().__init__()
            self.root = nn.Linear(6, 6)
            self.left = Tree(depth - 1) if depth else nn.Linear(6, 6)
            self.right = Tree(depth - 1) if depth else nn.Linear(6, 6)

        def forward(self, a):
            return self.root(self.left(a) + self.right(F.relu(a)))

    ported(lambda: Tree(2), 2, 6)


def test_a_module_called_twice_is_kept_once():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.head = Mlp(6, 8), nn.Linear(6, 6)

        def forward(self, a):
            return self.head(self.block(self.head(self.block(a))))

    result = ported(Shared, 2, 6)
    assert classes(result) == ["Mlp"]
    assert init_of(result, "Model").count("Mlp(") == 1
    assert {path.split(".")[0] for path in result.port.recipes} == {"block", "head"}


def test_a_module_under_two_names_is_right():
    class Alias(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = Mlp(6, 8)
            self.second = self.first

        def forward(self, a):
            return self.second(F.relu(self.first(a)))

    ported(Alias, 2, 6)


def test_tied_weights():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode, self.decode = nn.Linear(6, 8, bias=False), nn.Linear(8, 6)
            self.decode.weight = nn.Parameter(torch.rand(6, 8))
            self.out = nn.Linear(6, 8)
            self.out.weight = self.encode.weight

        def forward(self, a):
            return self.out(self.decode(self.encode(a)))

    ported(Tied, 2, 6)


def test_a_function_used_by_calls_of_different_depth():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Mlp(6, 8)

        def forward(self, a):
            return self.inner.fc1(a) @ self.inner.fc1(self.inner(a)).mT

    ported(Outer, 2, 6)


def test_modules_that_call_into_each_other():
    """A parent that uses its child's layer before and after the child."""

    class Split(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([Mlp(6, 8), Mlp(6, 8)])

        def forward(self, a):
            first, second = self.blocks
            return first.fc2(second.fc1(a)) + second(first(a))

    ported(Split, 2, 6)


# --------------------------------------------------------------------------------------------------------- the tree alone


def tree_of(module: nn.Module, *shape: int) -> Block:
    return build_tree(program_of(module, x(*shape)).program)


def test_blocks_say_what_goes_in_and_out():
    root = tree_of(net(lambda: Mlp(6, 8), lambda: Mlp(6, 8))(), 2, 6)
    first, second = (item for item in root.items if isinstance(item, Block))
    assert (first.path, second.path) == ("blocks.0", "blocks.1")
    assert first.inputs == root.inputs
    assert second.inputs == first.outputs
    assert second.outputs == root.outputs


def test_a_module_that_is_one_layer_has_no_block():
    root = tree_of(nn.Sequential(nn.Linear(6, 6), nn.ReLU()), 2, 6)
    assert not [item for item in root.items if isinstance(item, Block)]


def test_walk_gives_children_first():
    root = tree_of(Nested(2), 2, 6)
    assert [block.path for block in root.walk()] == ["inner.inner", "inner", ""]


def test_loops_carry_what_the_turn_before_wrote():
    root = tree_of(net(*[lambda: Mlp(6, 8)] * 3)(), 2, 6)
    assigned = factor_classes(root)
    (loop,) = [item for item in root.items if isinstance(item, Loop)]
    assert len(loop.turns) == 3
    assert loop.carried == [0]
    assert len({id(assigned[block]) for block in loop.blocks}) == 1


def test_each_layer_makes_its_own_view_of_a_table():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, a, table):
            heads = self.fc(a).reshape(*a.shape[:2], 2, 3)
            return a + (heads * table.unsqueeze(0).unsqueeze(-2)).flatten(2)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(Layer() for _ in range(3))
            self.table = nn.Parameter(torch.rand(4, 3))

        def forward(self, a):
            table = self.table.exp()
            for layer in self.layers:
                a = layer(a, table)
            return a

    result = ported(Net, 2, 4, 6)
    assert classes(result) == ["Layer"]


def test_a_local_does_not_take_the_name_of_a_buffer_that_is_still_read():
    class Child(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.out = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, a, given):
            b_table = self.fc(a)
            h = b_table.exp() + b_table.sin() * a
            return self.out(h) * given

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = Child(), Child()
            self.register_buffer("table", torch.rand(6))

        def forward(self, a):
            return self.b(self.a(a, self.table), self.table)

    ported = port_of(Net, (x(2, 6),))
    ported.check(x(2, 6))
