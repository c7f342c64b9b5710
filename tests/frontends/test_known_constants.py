"""known_constants: a forward may ask for numbers that it has made itself."""

import torch
from torch import nn

from tests.random_modules.parity import port_of


class GlobalNorm(nn.Module):
    """The axes and the weights of a forward, worked out by torch."""

    def forward(self, x):
        axes = torch.arange(1, x.ndim).tolist()
        mean = x.mean(axes, keepdim=True)
        for share in (torch.linspace(0, 1, 4) ** 2).tolist():
            if share > 0.1:
                x = x * share
        return x - mean


def test_numbers_of_the_forward_s_own():
    ported = port_of(GlobalNorm, [torch.randn(2, 3, 5)])
    assert not ported.port.notes
    ported.check(torch.randn(4, 3, 7))
