"""Factoring in whole ports: where layers, heads and tables of the source end up."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from tests.passes.factoring import Mlp, classes
from tests.passes.programs import x
from tests.random_modules.parity import check_source, port_of


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


class Recorded(nn.Module):
    """A sequence called twice, of which the second call's activation is read outside."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
        self.layers[1].register_forward_hook(self.keep)

    def keep(self, module, inputs, output):
        self.kept = output

    def forward(self, x):
        return self.layers(self.layers(x)), self.kept


def test_a_sequence_that_one_call_opens_is_a_list_of_layers():
    ported = port_of(Recorded, (x(2, 6),))
    ported.check(x(2, 6))
    assert "nn.Sequential" not in ported.port.model_py


class StatesOfTheirOwn(nn.Module):
    """Cells that start from an array of zeros for each state, which their convolutions turn around."""

    def __init__(self):
        super().__init__()
        self.cells = nn.ModuleList(ConvCell(2 if i == 0 else 4, 4) for i in range(2))

    def forward(self, frames):
        batch, steps, _, height, width = frames.shape
        states = [frames.new_zeros(batch, 4, height, width) for _ in self.cells]
        for t in range(steps):
            x = frames[:, t]
            for i, cell in enumerate(self.cells):
                x = states[i] = cell(x, states[i])
        return x


class ConvCell(nn.Module):
    def __init__(self, inputs: int, hidden: int):
        super().__init__()
        self.of_input = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.of_state = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, padding=1), nn.GroupNorm(1, hidden)
        )

    def forward(self, x, state):
        return torch.tanh(self.of_input(x) + self.of_state(state)) * state + x.mean(1, True)


def test_cells_are_handed_the_zeros_that_they_start_from():
    ported = port_of(StatesOfTheirOwn, (x(2, 3, 2, 8, 6),))
    ported.check(x(2, 3, 2, 8, 6))
    assert "class ConvCell" in ported.port.model_py
    assert "mx.zeros" not in ported.port.model_py.partition("class Model(")[0]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.GRUCell(4, 8), nn.Linear(8, 4)

    def forward(self, x, h):
        h = self.cell(x, h)
        return self.cell(torch.tanh(self.out(h)), h)


def test_a_function_of_several_parameters_is_kept_where_the_source_keeps_them():
    net = port_of(Recurrent, (torch.randn(2, 4), torch.randn(2, 8)))
    net.check(torch.randn(3, 4), torch.randn(3, 8))
    assert classes(net) == ["GRUCell"]
    assert "cell.weight_ih" in net.port.recipes
