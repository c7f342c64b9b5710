"""fuse_linear: a product with a stored weight is nn.Linear."""

import torch
from torch import nn

from tests.random_modules.parity import check_source, port_of


class Spelled(nn.Linear):
    """As Falcon has it: the product by hand, so that it is done in the weight's type."""

    def forward(self, x):
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


class Both(nn.Module):
    """Its one weight is read turned and as it stands: no Linear has the second."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6))

    def forward(self, x):
        return (x @ self.weight.T) @ self.weight


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.both = Spelled(8, 12), Spelled(12, 6, bias=False), Both()

    def forward(self, x):
        return self.both(self.second(torch.relu(self.first(x))))


def test_tokens_times_a_turned_weight():
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    ported = port_of(Net, (x,))
    ported.check(x)
    check_source(ported.port.model_py)
    assert ported.port.model_py.count("nn.Linear(") == 2
