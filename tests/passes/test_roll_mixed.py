"""Loops over lists whose layers are of several classes. Every port is run and compared."""

from __future__ import annotations

from torch import nn

from tests.passes.factoring import loops, ported


class Local(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, a):
        return a + self.conv(a.transpose(1, 2)).transpose(1, 2)


class Global(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(dim), nn.Linear(dim, dim)

    def forward(self, a):
        return a + self.fc(self.norm(a).mean(1, keepdim=True))


def of_two_kinds(kinds, between=None):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(kind(6) for kind in kinds)
            self.between = between() if between else None

        def forward(self, a):
            for i, block in enumerate(self.blocks):
                a = block(a)
                if i == 0 and self.between is not None:
                    a = self.between(a)
            return a

    return Net


def test_a_list_of_two_kinds_is_one_loop():
    result = ported(of_two_kinds([Local, Global] * 3), 2, 5, 6)
    assert loops(result) == 1
    assert "for _ in range(3) for layer in (Local(" in " ".join(result.port.model_py.split())


def test_a_loop_over_two_kinds_starts_behind_what_stands_between():
    result = ported(
        of_two_kinds([Local, Global, Local, Global, Global], lambda: nn.Linear(6, 6)), 2, 5, 6
    )
    assert loops(result) == 1
    assert "for block in self.blocks[1:]:" in result.port.model_py


def test_two_calls_of_two_kinds_are_no_loop():
    assert loops(ported(of_two_kinds([Local, Global]), 2, 5, 6)) == 0


def test_lists_of_two_kinds_in_other_orders_are_two_classes():
    class Stages(nn.Module):
        def __init__(self):
            super().__init__()
            orders = ([Local, Global, Local], [Local, Local, Global])
            self.first, self.second = (of_two_kinds(order)() for order in orders)

        def forward(self, a):
            return self.second(self.first(a))

    result = ported(Stages, 2, 5, 6)
    assert loops(result) == 2
