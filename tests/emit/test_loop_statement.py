"""Loops that carry several arrays: each turn reads what the turn before gave, however the names change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.random_modules.parity import check_source, port_of


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        h = torch.tanh(self.a(x))
        return h, self.b(h)


class One(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


class Base(nn.Module):
    kind = Pair

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(self.kind() for _ in range(4))
        self.out = nn.Linear(6, 3)


class Squares(Base):
    kind = One

    def forward(self, x):
        total = x * 0.5
        for layer in self.layers:
            h = torch.tanh(layer(x) * total)
            old, x = x, h * h
            total = total + old * old + old
        return self.out(total) + x[..., :3]


class OldAfterwards(Base):
    kind = One

    def forward(self, x):
        first, total = x, torch.sin(x)
        for layer in self.layers:
            y = layer(x) + first
            total = total * y + x
            x = torch.tanh(y)
        return self.out(total) + self.out(first), x


class Skips(Base):
    """A residual and a skip from each block, as in Conv-TasNet and WaveNet."""

    def forward(self, x):
        total = x * 0.5
        for layer in self.layers:
            r, skip = layer(x)
            x = x + r
            total = total + skip
        return self.out(total), x


class SkipsCarried(Base):
    def forward(self, x):
        total = x * 0.5
        for layer in self.layers:
            x, skip = layer(x)
            total = total + skip
        return self.out(total), x


class OldRead(Base):
    kind = One

    def forward(self, x):
        total = x * 0.5
        for layer in self.layers:
            y = layer(x)
            old = x
            x = x + y
            total = total + old * y
        return self.out(total), x


class Sum(Base):
    kind = One

    def forward(self, x):
        total = x * 0.5
        for layer in self.layers:
            x = layer(x)
            total = total + x
        return self.out(total), x


class SumOfNew(Base):
    kind = One

    def forward(self, x):
        total = x * 0.5
        for layer in self.layers:
            x = x + layer(x)
            total = total + x
        return self.out(total)


class Momentum(Base):
    kind = One

    def forward(self, x):
        v = x * 0.1
        for layer in self.layers:
            v = 0.9 * v + layer(x)
            x = x + v
        return self.out(x)


class Swap(Base):
    kind = One

    def forward(self, x):
        a, b = x, x * 0.3
        for layer in self.layers:
            a, b = b + layer(a), a
        return self.out(a) + self.out(b)


class Crossed(Base):
    kind = One

    def forward(self, x):
        a, b = x, x * 0.3
        for layer in self.layers:
            y = layer(a)
            a, b = torch.sin(b) * y, torch.cos(a) + y
        return self.out(a) + self.out(b)


@pytest.mark.parametrize(
    "cls",
    [Skips, SkipsCarried, OldRead, Sum, SumOfNew, Momentum, Swap, Crossed, Squares, OldAfterwards],
)
def test_what_turns_hand_on(cls):
    ported = port_of(cls, (torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0)),))
    ported.check(torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(1)))
    check_source(ported.port.model_py)
    assert cls is Swap or "for layer in self.layers" in ported.port.model_py
