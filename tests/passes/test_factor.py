"""Factoring: the tree of calls, lists and loops, and which blocks share a class. Every port is run and compared."""

from __future__ import annotations

import ast

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from porter.passes.factor.classes import factor_classes
from porter.passes.factor.roll import list_position
from porter.passes.factor.tree import Block, Loop, build_tree
from tests.passes.programs import program_of, x
from tests.random_modules.parity import Ported, check_source, port_of


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int, activation=F.relu, drop: bool = False):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.activation = activation
        self.scale = nn.Parameter(torch.rand(dim)) if drop else None

    def forward(self, a):
        h = self.fc2(self.activation(self.fc1(a)))
        if self.scale is not None:
            h = h * self.scale
        return a + h


def net(*blocks, loop: bool = True):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            if loop:
                self.blocks = nn.ModuleList(make() for make in blocks)
            else:
                for i, make in enumerate(blocks):
                    setattr(self, "abcdefgh"[i], make())

        def forward(self, a):
            for block in self.children() if not loop else self.blocks:
                a = block(a)
            return a

    return Net


def ported(build, *shape: int) -> Ported:
    result = port_of(build, (x(*shape),))
    result.check(x(*shape))
    result.check(x(shape[0] + 1, *shape[1:]))
    check_source(result.port.model_py)
    return result


def classes(result: Ported) -> list[str]:
    found = [n.name for n in ast.parse(result.port.model_py).body if isinstance(n, ast.ClassDef)]
    return [name for name in found if name not in ("ModelArgs", "Model")]


def loops(result: Ported) -> int:
    return sum(isinstance(node, ast.For) for node in ast.walk(ast.parse(result.port.model_py)))


def init_of(result: Ported, name: str) -> str:
    tree = ast.parse(result.port.model_py)
    cls = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    return ast.unparse(next(n for n in cls.body if isinstance(n, ast.FunctionDef)))


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


def test_blocks_that_lack_a_part_are_one_class():
    result = ported(net(lambda: Mlp(6, 8), lambda: Mlp(6, 8, drop=True), lambda: Mlp(6, 8)), 2, 6)
    assert classes(result) == ["Mlp"]
    assert '"scale" in self' in result.port.model_py


def test_the_first_block_may_be_the_one_that_lacks_it():
    result = ported(net(lambda: Mlp(6, 8), lambda: Mlp(6, 8, drop=True), loop=False), 2, 6)
    assert classes(result) == ["Mlp"]


class Down(nn.Module):
    """ResNet's block: a projection where the width changes."""

    def __init__(self, inp: int, out: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inp, out, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or inp != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(inp, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, a):
        shortcut = a
        if self.downsample is not None:
            shortcut = self.downsample(a)
        return F.relu(self.bn(self.conv(a)) + shortcut)


def test_a_projected_shortcut_is_optional():
    def build():
        return nn.Sequential(Down(3, 6, 2), Down(6, 6), Down(6, 6), Down(6, 8, 2), Down(8, 8))

    result = ported(build, 2, 3, 8, 8)
    assert classes(result) == ["Down"]
    assert '"downsample" in self' in result.port.model_py


def test_a_residual_that_only_some_have():
    class Inverted(nn.Module):
        def __init__(self, inp, out):
            super().__init__()
            self.fc = nn.Linear(inp, out)
            self.skip = inp == out

        def forward(self, a):
            h = F.relu(self.fc(a))
            return a + h if self.skip else h

    result = ported(
        lambda: nn.Sequential(Inverted(6, 8), Inverted(8, 8), Inverted(8, 6), Inverted(6, 6)), 2, 6
    )
    assert classes(result) == ["Inverted"]


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


def test_a_list_in_another_order():
    class Reversed(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Mlp(6, h) for h in (4, 5, 7, 9))

        def forward(self, a):
            for block in reversed(self.blocks):
                a = block(a)
            return a

    ported(Reversed, 2, 6)


def test_a_list_of_which_some_go_unused():
    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Mlp(6, h) for h in (4, 5, 7, 9, 11))

        def forward(self, a):
            return self.blocks[4](self.blocks[1](self.blocks[0](a)))

    ported(Partly, 2, 6)


def test_every_result_of_a_list_is_read():
    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Mlp(6, 8) for _ in range(4))

        def forward(self, a):
            kept = []
            for block in self.blocks:
                a = block(a)
                kept.append(a)
            return torch.cat(kept, -1)

    ported(Features, 2, 6)


def test_some_results_of_a_list_are_returned():
    class Stages(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Mlp(6, 8) for _ in range(5))

        def forward(self, a):
            kept = []
            for i, block in enumerate(self.blocks):
                a = block(a)
                if i in (1, 3):
                    kept.append(a)
            return (a, *kept)

    ported(Stages, 2, 6)


def test_what_stands_between_the_turns_is_in_the_loop():
    class Glue(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Mlp(6, 8) for _ in range(4))

        def forward(self, a):
            skip = a
            for block in self.blocks:
                a = torch.tanh(block(a)) + skip
            return a

    assert loops(ported(Glue, 2, 6)) == 1


def test_parallel_branches_are_no_loop():
    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.branches = nn.ModuleList(nn.Linear(6, 4) for _ in range(3))

        def forward(self, a):
            return sum(branch(a) for branch in self.branches)

    ported(Parallel, 2, 6)


def test_two_lists_take_turns():
    class Zipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(Mlp(6, 8) for _ in range(3))
            self.norms = nn.ModuleList(nn.LayerNorm(6) for _ in range(3))

        def forward(self, a):
            for conv, norm in zip(self.convs, self.norms, strict=True):
                a = norm(conv(a))
            return a

    ported(Zipped, 2, 6)


def test_a_loop_with_a_shared_bias():
    """T5: the first block makes what the others read."""

    class First(nn.Module):
        def __init__(self, has_table):
            super().__init__()
            self.fc = nn.Linear(6, 6)
            self.table = nn.Linear(6, 6) if has_table else None

        def forward(self, a, bias=None):
            if self.table is not None:
                bias = self.table(a)
            return F.relu(self.fc(a)) + bias, bias

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(First(i == 0) for i in range(3))

        def forward(self, a):
            bias = None
            for block in self.blocks:
                a, bias = block(a, bias)
            return a

    ported(Net, 2, 6)


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


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("blocks.3", ("blocks", 3)),
        ("denselayer12", ("denselayer", 12)),
        ("a.b.0", ("a.b", 0)),
        ("norm", None),
        ("7", None),
    ],
)
def test_list_positions(path, place):
    assert list_position(path) == place


def test_a_loop_hands_its_module_s_parameter_to_every_turn():
    class Turn(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, a, table):
            return a + self.fc(a) * table

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Turn() for _ in range(3))
            self.register_buffer("table", torch.rand(6))

        def forward(self, a):
            for block in self.blocks:
                a = block(a, self.table)
            return a

    ported = port_of(Net, (x(2, 6),))
    ported.check(x(2, 6))
    check_source(ported.port.model_py)
    assert "for block in self.blocks" in ported.port.model_py


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


def test_a_branch_of_several_statements_is_written_once():
    """Where a block lacks the branch, its input goes on."""

    class Scaled(nn.Module):
        def __init__(self, factor: int | None):
            super().__init__()
            self.conv, self.out, self.factor = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), factor

        def forward(self, image):
            image = self.conv(image)
            if self.factor is not None:
                image = F.interpolate(image, size=(9, 9), mode="bilinear")
            return self.out(image)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = Scaled(None), Scaled(2), Scaled(None)

        def forward(self, image):
            return self.c(self.b(self.a(image)))

    ported = port_of(Net, (x(2, 4, 5, 5),))
    ported.check(x(2, 4, 5, 5))
    check_source(ported.port.model_py)
    assert ported.port.model_py.count("        if ") == 1


def test_blocks_that_lack_different_parts_of_a_sum_are_two_classes():
    """Without the first summand the second goes on, and without the second the first: no one array takes the sum's place."""

    class Sum(nn.Module):
        def __init__(self, first: bool, second: bool):
            super().__init__()
            self.first = nn.LayerNorm(6) if first else None
            self.second = nn.Linear(6, 6) if second else None
            self.out = nn.Linear(6, 6)

        def forward(self, a):
            total = None if self.first is None else self.first(a)
            if self.second is not None:
                total = self.second(a) if total is None else total + self.second(a)
            return self.out(total)

    blocks = [lambda f=f, s=s: Sum(f, s) for f, s in ((True, True), (False, True), (True, False))]
    result = ported(net(*blocks, loop=False), 2, 6)
    assert len(classes(result)) == 2


@pytest.mark.parametrize("own", [False, True])
def test_two_poolings_of_one_forward_stay_two(own):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            if own:
                self.maxpool = nn.MaxPool2d(2)

        def forward(self, image):
            image = self.conv(image)
            first = self.maxpool(image) if own else F.max_pool2d(image, 2)
            return first + F.max_pool2d(image, 3, 2, 1) + F.max_pool2d(image, 2)

    ported = port_of(Net, (x(2, 3, 8, 8),))
    ported.check(x(2, 3, 8, 8))
    check_source(ported.port.model_py)
    assert ported.port.model_py.count("nn.MaxPool2d(") == 2


def test_a_module_that_pools_by_function_keeps_its_class():
    class Pooling(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, image):
            return self.conv(F.avg_pool2d(image, 3, 1, 1)) + F.max_pool2d(image, 3, 1, 1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Pooling(), Pooling()

        def forward(self, image):
            return self.second(self.first(image))

    ported = port_of(Net, (x(2, 4, 8, 8),))
    ported.check(x(2, 4, 8, 8))
    check_source(ported.port.model_py)
    assert "class Pooling" in ported.port.model_py


def test_activations_in_a_sequential_may_differ_by_instance():
    class Part(nn.Module):
        def __init__(self, activation):
            super().__init__()
            self.block = nn.Sequential(
                nn.Sequential(nn.Linear(6, 6), activation()), nn.Sequential(nn.Linear(6, 6))
            )

        def forward(self, a):
            return a + self.block(a)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Part(nn.ReLU), Part(nn.Hardswish)
            self.third = Part(nn.ReLU)

        def forward(self, a):
            return self.third(self.second(self.first(a)))

    ported = port_of(Net, (x(2, 6),))
    ported.check(x(2, 6))
    check_source(ported.port.model_py)
    assert ported.port.model_py.count("class Part") == 1


class Windows(nn.Module):
    """Mixes the places of each window; a map that is one window needs no cutting."""

    def __init__(self, dim: int, size: int, window: int = 4):
        super().__init__()
        self.window, self.size = window, size
        self.norm, self.mix = nn.LayerNorm(dim), nn.Linear(window * window, window * window)

    def forward(self, a):
        b, h, w, c = a.shape
        n = self.window
        cut = self.norm(a).view(b, h // n, n, w // n, n, c).permute(0, 1, 3, 2, 4, 5)
        mixed = self.mix(cut.reshape(-1, n * n, c).transpose(1, 2)).transpose(1, 2)
        back = mixed.reshape(b, h // n, w // n, n, n, c).permute(0, 1, 3, 2, 4, 5)
        return a + back.reshape(b, h, w, c)


def test_a_map_of_one_window_is_cut_too():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.narrow = Windows(6, 8), Windows(5, 4)
            self.down = nn.Linear(24, 5)

        def forward(self, a):
            a = self.wide(a)
            b, h, w, c = a.shape
            a = a.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).flatten(3)
            return self.narrow(self.down(a))

    result = port_of(Net, (x(2, 8, 8, 6),), {"a": {0: "batch"}})
    result.check(x(3, 8, 8, 6))
    check_source(result.port.model_py)
    assert result.port.model_py.count("class Windows") == 1


def test_as_many_windows_as_a_window_is_long():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.narrow = Windows(6, 16), Windows(5, 4)
            self.down = nn.Linear(96, 5)

        def forward(self, a):
            a = self.wide(a)
            b, h, w, c = a.shape
            a = a.reshape(b, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).flatten(3)
            return self.narrow(self.down(a))

    result = port_of(Net, (x(2, 16, 16, 6),), {"a": {0: "batch"}})
    result.check(x(3, 16, 16, 6))
    assert "W // self.window" in result.port.model_py


def test_one_head_is_split_and_merged_as_several_are():
    class Heads(nn.Module):
        """Attention with linear scores: its transposes move nothing where there is one head."""

        def __init__(self, dim: int, heads: int):
            super().__init__()
            self.heads = heads
            self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))

        def split(self, a):
            b, n, c = a.shape
            return a.view(b, n, self.heads, c // self.heads).permute(0, 2, 1, 3)

        def forward(self, a):
            b, n, c = a.shape
            q, k, v = self.split(self.q(a)), self.split(self.k(a)), self.split(self.v(a))
            context = torch.einsum("bhlt,bhtv->bhlv", torch.einsum("bhlk,bhtk->bhlt", q, k), v)
            return context.permute(0, 2, 1, 3).reshape(b, n, c)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.down, self.three = Heads(4, 1), nn.Linear(4, 12), Heads(12, 3)

        def forward(self, a):
            return self.three(self.down(self.one(a))[:, ::2])

    result = port_of(Net, (x(2, 8, 4),), {"a": {0: "batch"}})
    result.check(x(3, 8, 4))
    check_source(result.port.model_py)
    assert result.port.model_py.count("class Heads") == 1
    assert "use_transpose" not in result.port.model_py


def test_lists_of_other_lengths_are_other_classes():
    class Stage(nn.Module):
        def __init__(self, depth: int):
            super().__init__()
            self.blocks = nn.ModuleList()
            for _ in range(depth):
                self.blocks += [nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6)), Windows(6, 4)]

        def forward(self, a):
            for block in self.blocks:
                a = block(a)
            return a

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Stage(1), Stage(3)

        def forward(self, a):
            return self.second(self.first(a))

    port_of(Net, (x(2, 4, 4, 6),), {"a": {0: "batch"}}).check(x(3, 4, 4, 6))


def test_two_loops_over_parts_of_one_list():
    class Net(nn.Module):
        def __init__(self, first: int):
            super().__init__()
            self.first = first
            self.blocks = nn.ModuleList(Mlp(6, 8) for _ in range(4))

        def forward(self, a):
            for block in self.blocks[: self.first]:
                a = block(a)
            a = torch.tanh(a)
            for block in self.blocks:
                a = block(a)
            return a

    for first in (2, 3, 4):
        result = port_of(lambda first=first: Net(first), (x(2, 6),))
        result.check(x(3, 6))
        assert "for _ in range(4)" in init_of(result, "Model")


class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.mlp = nn.Embedding(20, 8), Mlp(8, 12)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.table.weight

    def forward(self, h):
        return self.head(self.mlp(h))


class LooksUp(nn.Module):
    """As BLIP-2 has it: the words are looked up outside of the module that has the table and the head tied to it."""

    def __init__(self):
        super().__init__()
        self.language, self.scale = Language(), nn.Linear(8, 8)

    def forward(self, ids):
        return self.language(self.scale(self.language.table(ids)))


def test_a_head_stands_where_its_table_is_looked_up():
    ids = torch.arange(12).reshape(2, 6)
    result = port_of(LooksUp, (ids,))
    result.check(ids)
    check_source(result.port.model_py)
    assert ".as_linear(" in result.port.model_py


def _listed(blocks: list[nn.Module]) -> nn.ModuleList:
    return nn.ModuleList(blocks)


def _chained(blocks: list[nn.Module]) -> nn.Sequential:
    return nn.Sequential(*blocks)


def _in_pairs(blocks: list[nn.Module]) -> nn.Sequential:
    return nn.Sequential(*(nn.Sequential(block, nn.LayerNorm(6)) for block in blocks))


class DeepStage(nn.Module):
    def __init__(self, hidden: int, depth: int, listed):
        super().__init__()
        self.down = nn.Linear(6, 6)
        self.blocks = listed([Mlp(6, hidden) for _ in range(depth)])

    def forward(self, a):
        a = self.down(a)
        if isinstance(self.blocks, nn.Sequential):
            return self.blocks(a)
        for block in self.blocks:
            a = block(a)
        return a


@pytest.mark.parametrize("listed", [_listed, _chained, _in_pairs])
def test_a_list_of_one_layer_is_a_list_where_others_have_more(listed):
    class Net(nn.Module):
        def __init__(self, hidden: tuple = (8, 12, 16, 20), depths: tuple = (1, 1, 3, 1)):
            super().__init__()
            self.stages = nn.Sequential(
                *(DeepStage(h, d, listed) for h, d in zip(hidden, depths, strict=True))
            )

        def forward(self, a):
            return self.stages(a)

    result = ported(Net, 2, 6)
    assert classes(result) == ["Mlp", "DeepStage"]
    assert "for _ in range(depth)" in init_of(result, "DeepStage")
    assert "args.depths[i]" in init_of(result, "Model")


class _Pooled(nn.Module):
    """Half the channels inside, four times these before the last layer."""

    def __init__(self, c1, c2):
        super().__init__()
        self.cv1, self.cv2 = _Unit(c1, c1 // 2, 1), _Unit(c1 * 2, c2, 1)
        self.m = nn.MaxPool2d(5, stride=1, padding=2)

    def forward(self, x):
        y = [self.cv1(x)]
        y.extend(self.m(y[-1]) for _ in range(3))
        return self.cv2(torch.cat(y, 1))


class _Unit(nn.Module):
    def __init__(self, c1, c2, k=3):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, padding=k // 2)

    def forward(self, x):
        return torch.relu(self.conv(x))


class _Listed(nn.Module):
    """A net that is one list, and reads one of its inner results again."""

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(
            _Unit(3, 8), _Unit(8, 16), _Unit(16, 32), _Pooled(32, 32), nn.Upsample(scale_factor=2)
        )

    def forward(self, x):
        kept = []
        for layer in self.model:
            x = layer(x)
            kept.append(x)
        return x, kept[1]


def test_sizes_of_one_name_inside_and_outside_a_class_are_told_apart():
    pixels = torch.randn(2, 3, 16, 16)
    ported = port_of(_Listed, [pixels])
    ported.check(pixels)
    assert "def __init__(self, c1: int, c2: int, cv1_c2: int, cv2_c1: int):" in ported.port.model_py
    assert "for layer in self.model[:2]:" in ported.port.model_py
    assert "self.model[-" not in ported.port.model_py


class _Rows(nn.Module):
    """One module in every row, beside one of each row's own."""

    def __init__(self, dim=8):
        super().__init__()
        shared = _Residual(dim)
        self.rows = nn.ModuleList(
            nn.ModuleList([shared, nn.Linear(dim, dim, bias=False)]) for _ in range(3)
        )

    def forward(self, a):
        for shared, own in self.rows:
            a = own(shared(a))
        return a


class _Residual(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, dim))

    def forward(self, a):
        return a + self.net(a)


def test_a_module_under_several_names_is_kept_once():
    a = torch.randn(2, 8)
    ported = port_of(_Rows, [a])
    ported.check(a)
    assert sum("net" in path for path in ported.port.recipes) == 4
