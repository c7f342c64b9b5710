"""joined_rows: rows that are only joined again may be any number; what else is done with them fixes it."""

import torch
from torch import nn

from tests.random_modules.parity import port_of

BATCH = {"x": {0: "batch"}}


class Joined(nn.Module):
    def forward(self, x):
        return torch.cat(list(x * 2), dim=0)


class Counted(nn.Module):
    def forward(self, x):
        first, *others = x * 2
        return torch.cat([first, *others], dim=0) + len(others)


class Some(nn.Module):
    def forward(self, x):
        return torch.cat(list(x * 2)[1:], dim=0)


class Sideways(nn.Module):
    def forward(self, x):
        return torch.cat(list(x * 2), dim=1)


def test_joined_rows_are_any_number():
    ported = port_of(Joined, [torch.randn(3, 4, 5)], BATCH)
    assert ported.port.inputs[0]["shape"][0] == "batch"
    ported.check(torch.randn(5, 4, 5))


def test_what_else_is_done_with_rows_fixes_their_number():
    for build in (Counted, Some, Sideways):
        ported = port_of(build, [torch.randn(3, 4, 5)], BATCH)
        assert ported.port.inputs[0]["shape"] == [3, 4, 5]
        ported.check(torch.randn(3, 4, 5))
