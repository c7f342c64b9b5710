"""Steps that the author's loop takes, over time or by a number, are a loop again and compute the same."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from tests.random_modules.parity import checked_source


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 6))
        self.gate, self.state = nn.Linear(6, 6), nn.Linear(6, 6, bias=False)


class Euler(Net):
    def forward(self, x):
        z = x[:, 0]
        for _ in range(8):
            middle = z + 0.05 * self.inner(z)
            z = z + 0.1 * self.inner(middle)
        return z


class OverTime(Net):
    """A recurrence of one state, whose steps are all kept."""

    def forward(self, x):
        h = x.new_zeros(x.shape[0], 6)
        kept = []
        for k in range(x.shape[1]):
            z = torch.sigmoid(self.gate(x[:, k]) + self.state(h))
            h = z * h + (1 - z) * torch.tanh(x[:, k])
            kept.append(h)
        return torch.stack(kept, dim=1)


class Backward(OverTime):
    def forward(self, x):
        h = x.new_zeros(x.shape[0], 6)
        kept = []
        for k in reversed(range(x.shape[1])):
            h = torch.tanh(self.gate(x[:, k]) + self.state(h))
            kept.insert(0, h)
        return torch.stack(kept, dim=1), h


class EverySecond(OverTime):
    def forward(self, x):
        h = x[:, 0]
        for k in range(1, 6):
            h = torch.tanh(self.gate(x[:, 2 * k - 1]) + self.state(h))
        return h + x[:, 0]


class Spikes(Net):
    """The last step's states are read by nobody."""

    def forward(self, x):
        first, second = x.new_zeros(x.shape[0], 6), x.new_zeros(x.shape[0], 6)
        counts = []
        for _ in range(9):
            first = 0.9 * first + self.gate(x[:, 1])
            fired = (first > 0.2).to(x.dtype)
            first = first - fired
            second = 0.8 * second + self.state(fired)
            again = (second > 0.1).to(x.dtype)
            second = second - again
            counts.append(again)
        return torch.stack(counts).mean(0)


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.joined = nn.Linear(12, 24)

    def forward(self, x, state):
        h, c = state
        i, f, o, g = self.joined(torch.cat([x, h], 1)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class Cells(Net):
    """Two states that start from one array, and steps of a layer upon those of another."""

    def __init__(self):
        super().__init__()
        self.cells = nn.ModuleList(Cell() for _ in range(2))

    def forward(self, x):
        rows = [x[:, k] for k in range(x.shape[1])]
        for cell in self.cells:
            zeros = x.new_zeros(x.shape[0], 6)
            state, given = (zeros, zeros), []
            for row in rows:
                state = cell(row, state)
                given.append(state[0])
            rows = given
        return torch.stack(rows, 1), state[1]


class Swapped(Net):
    """What each of two states was is read for the other."""

    def forward(self, x):
        a, b = x[:, 0], x[:, 1]
        for _ in range(7):
            a, b = torch.tanh(self.gate(b)) + a, torch.tanh(self.state(a)) - b
        return a * b


class Anchored(Net):
    """The start is read in every step, and behind the loop."""

    def forward(self, x):
        start = x[:, 0]
        z = start
        for _ in range(6):
            z = torch.tanh(self.state(z) + start)
        return z - start


class Growing(Net):
    """Numbers that grow stand in sums and products too."""

    def forward(self, x):
        total = torch.zeros_like(x[:, 0])
        for k in range(10):
            total = torch.sin(total * (k + 2) * 0.1 - 3 * k + x[:, k])
        return total


class Five(nn.Module):
    def __init__(self):
        super().__init__()
        self.state = nn.Linear(6, 6)

    def forward(self, x):
        h = x.new_zeros(x.shape[0], 6)
        for k in range(5):
            h = torch.tanh(self.state(h) + x[:, k])
        return h


class OfTwoLengths(nn.Module):
    """One class goes through all of an array in one instance, and through a part in another."""

    def __init__(self):
        super().__init__()
        self.a, self.b = Five(), Five()

    def forward(self, x):
        return self.a(x[:, :5]) + self.b(x)


class Last(Net):
    """What is read behind the loop has no name that the next turn's start takes."""

    def forward(self, x):
        y, z = x.mean(1) * 0.5, x.amax(1)
        kept = []
        for k in range(8):
            y = torch.tanh(y - self.state(y))
            w = torch.tanh(y - z) * 0.5 + z * 0.1
            z = torch.tanh(w + y)
            y = torch.sigmoid(x[:, k] * y)
            kept.append(y)
            y = y * y
        return kept[-1] + kept[1], z, w, y


class OneStart(Net):
    """The array that the state starts from is read behind the loop."""

    def forward(self, x):
        zeros = x.new_zeros(x.shape[0], 6)
        h = zeros
        for k in range(7):
            h = torch.tanh(self.state(h) + x[:, k])
        return torch.cat([zeros, h], 1), zeros + 1


class OddFirst(Net):
    """Two states start from one array, and the first step alone casts otherwise."""

    kinds = (torch.int64, *[torch.int32] * 5)

    def forward(self, x):
        a = b = torch.tanh(x[:, 0])
        for kind in self.kinds:
            a = torch.tanh(self.state(a) + b)
            b = ((a > b) * 3.0).to(kind).float() + a
        return a + b


class OddLast(OddFirst):
    """The last step alone casts otherwise, and its state is read by nobody."""

    kinds = (*[torch.int32] * 5, torch.int64)

    def forward(self, x):
        a, kept = torch.tanh(x[:, 0]) * 2, []
        for kind in self.kinds:
            b = ((a > 0.3) * 3.0).to(kind).float() + a
            kept.append(b)
            a = torch.tanh(self.state(b))
        return torch.stack(kept)


class Uneven(Net):
    """The numbers follow no line: the steps stay apart."""

    def forward(self, x):
        total = torch.zeros_like(x[:, 0])
        for k in range(8):
            total = torch.sin(total * 0.5 + k * k + x[:, (3 * k * k) % 8])
        return total


class Three(Net):
    def forward(self, x):
        z = x[:, 0]
        for _ in range(3):
            z = z + self.inner(z)
        return z


LOOPS = {
    Euler: "for _ in range(8):",
    Three: "for _ in range(3):",
    OverTime: "for t in range(x.shape[1]):",
    Backward: "for t in reversed(range(x.shape[1])):",
    EverySecond: "x[:, 2 * t + 1]",
    Spikes: "for _ in range(9):",
    Cells: "for row in outputs:",
    Swapped: "for _ in range(7):",
    Anchored: "for _ in range(6):",
    OfTwoLengths: "for t in range(5):",
    OneStart: "for t in range(7):",
    Last: "outputs[-1] + outputs[1]",
    Growing: "- (3 * t + 3) + x[:, t + 1])",
}


@pytest.mark.parametrize("module", LOOPS)
def test_steps_are_a_loop(module):
    text = checked_source(module, 2, 10, 6)
    assert LOOPS[module] in text, text
    assert len(re.findall(r"self\.(state|gate|joined)\(", text)) <= 2, text


def test_steps_that_stay_apart():
    assert " for " not in checked_source(Uneven, 2, 10, 6).partition("__call__")[2]


@pytest.mark.parametrize("module", [OddFirst, OddLast])
def test_a_step_that_is_not_written_is_like_the_others(module):
    assert checked_source(module, 2, 10, 6).count("mx.int64)") == 1
