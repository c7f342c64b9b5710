"""Branches and loops of the exported graph."""

import pytest
import torch
from lowering.check import Case, check
from lowering.evaluate import lower, run, to_numpy
from torch import nn
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop

from porter.errors import UnsupportedError


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: self.a(x), lambda x: self.b(x).relu(), (x,))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_branch_is_chosen_by_the_data(sign):
    torch.manual_seed(0)
    module, x = Branches().eval(), torch.rand(3, 4)
    lowered = lower(module, (x,))
    found = to_numpy(run(lowered, [sign * x])[0])
    assert abs(found - module(sign * x).detach().numpy()).max() < 1e-5


def test_a_scan_is_written_out():
    def running(x):
        return scan(lambda total, row: (total + row, total * row), torch.zeros_like(x[0]), x)

    check(Case("scan", running, [(5, 4)], n=5, kappa=8))


def test_a_loop_by_the_data_is_refused():
    def loop(x):
        return while_loop(lambda x: x.sum() < 10, lambda x: (x + 1,), (x,))

    with pytest.raises(UnsupportedError, match="depends on the data"):
        lower(Wrapped(loop), (torch.rand(3),))


class Wrapped(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)
