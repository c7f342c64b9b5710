"""Lists of layers and the loops over them. Every port is run and compared."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from porter.passes.factor.roll import list_position
from tests.passes.factoring import Mlp, classes, init_of, loops, ported
from tests.passes.programs import x
from tests.random_modules.parity import check_source, port_of


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


def test_turns_that_need_an_array_s_sizes_are_no_loop():
    """A shuffle of channels between the layers, as ShuffleNet's and FastFlowNet's decoders have it."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(
                nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=3), nn.ReLU()) for _ in range(3)
            )

        def forward(self, a):
            n, _, h, w = a.shape
            for conv in self.convs:
                a = conv(a).view(n, 3, 2, h, w).transpose(1, 2).reshape(n, 6, h, w)
            return a

    port_of(Net, (x(2, 6, 5, 7),)).check(x(3, 6, 5, 7))
