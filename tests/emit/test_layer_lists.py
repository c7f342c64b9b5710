"""Lists of layers: what differs along them is said."""

from __future__ import annotations

import torch
from torch import nn

from tests.passes.programs import x
from tests.random_modules.parity import check_source, port_of


class Block(nn.Module):
    def __init__(self, width: int, outer: int):
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(width), nn.Linear(width, outer)

    def forward(self, a):
        return torch.relu(self.mix(self.norm(a))) + a.mean(-1, keepdim=True)


class Stages(nn.Module):
    """Stages by numbered names, each a Sequential of one block, as SENet has them."""

    def __init__(self, widths: tuple[int, ...] = (6, 8, 10, 12, 14)):
        super().__init__()
        self.depth = len(widths) - 1
        for i in range(self.depth):
            setattr(self, f"layer{i + 1}", nn.Sequential(Block(widths[i], widths[i + 1])))

    def forward(self, a):
        for i in range(self.depth):
            a = getattr(self, f"layer{i + 1}")(a)
        return a


class Rows(nn.Module):
    """A list of Sequentials of one structure, whose sizes differ."""

    def __init__(self):
        super().__init__()
        self.rows = nn.ModuleList(
            nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.LayerNorm(b))
            for a, b in ((6, 4), (4, 9), (9, 3))
        )

    def forward(self, a):
        for row in self.rows:
            a = row(a)
        return a


class Alike(Rows):
    def __init__(self):
        super().__init__()
        self.rows = nn.ModuleList(nn.Sequential(Block(6, 6), nn.ReLU()) for _ in range(3))


def test_sequentials_that_differ_are_written_one_by_one():
    for net in (Stages, Rows):
        ported = port_of(net, (x(2, 6),))
        ported.check(x(3, 6))
        check_source(ported.port.model_py)


def test_sequentials_that_are_alike_are_a_comprehension():
    ported = port_of(Alike, (x(2, 6),))
    ported.check(x(3, 6))
    assert "for _ in range(3)]" in ported.port.model_py


class Written(nn.Module):
    """The second chain begins by writing into what the first gave, which is returned: CRAFT's VGG does so."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6))
        self.second = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 6), nn.LayerNorm(6))

    def forward(self, a):
        a = self.first(a)
        kept = a
        return kept, self.second(a)


def test_what_a_chain_writes_into_its_input_is_seen_outside():
    ported = port_of(Written, (x(2, 6),))
    ported.check(x(3, 6))
    check_source(ported.port.model_py)


class Indexed(nn.Module):
    """One module whose calls go by an index, each with layers of its own: neural operators' blocks."""

    def __init__(self):
        super().__init__()
        self.skips = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.mixes = nn.ModuleList(Block(6, 6) for _ in range(3))

    def forward(self, a, index):
        return torch.tanh(self.mixes[index](a) + self.skips[index](a))


class ByIndex(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = Indexed()

    def forward(self, a):
        for index in range(3):
            a = self.blocks(a, index)
        return a


def test_calls_that_read_parameters_of_their_own():
    ported = port_of(ByIndex, (x(2, 6),))
    ported.check(x(3, 6))
    check_source(ported.port.model_py)


class Dense(nn.Module):
    """Each layer reads what all before it gave; its author calls the width of the first `i`."""

    def __init__(self, i: int, growth: int = 3):
        super().__init__()
        self.layers = nn.ModuleList(Block(i + k * growth, growth) for k in range(4))

    def forward(self, a):
        for layer in self.layers:
            a = torch.cat([a, layer(a)], -1)
        return a


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.between, self.two = Dense(6), nn.Linear(18, 7), Dense(7)

    def forward(self, a):
        return self.two(self.between(self.one(a)))


def test_an_argument_is_not_the_variable_of_a_comprehension():
    ported = port_of(Blocks, (x(2, 6),))
    ported.check(x(3, 6))
    check_source(ported.port.model_py)
    assert "[Block(i_ + i * 3) for i in range(4)]" in ported.port.model_py


class Alone(nn.Module):
    """One such block, whose class takes the settings and the width beside them."""

    def __init__(self, width: int = 5):
        super().__init__()
        self.embed, self.one = nn.Linear(6, width), Dense(width)
        self.between, self.two = nn.Linear(17, 17), Wide(17)

    def forward(self, a):
        return self.two(self.between(self.one(self.embed(a))))


class Wide(Dense):
    """Another class, for which no setting has the width."""

    def forward(self, a):
        return super().forward(torch.tanh(a)) * 2


def test_nor_is_one_of_a_class_that_takes_the_settings():
    ported = port_of(Alone, (x(2, 6),))
    ported.check(x(3, 6))
    assert "[Block(i_ + i * 3) for i in range(4)]" in ported.port.model_py
