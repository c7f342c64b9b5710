"""TracedData: `tensor.data` is traced."""

import torch
from torch import nn

from tests.random_modules.parity import check_source, port_of


class Masked(nn.Conv2d):
    """A convolution that does not look ahead, as PixelCNNs write it."""

    def __init__(self):
        super().__init__(3, 4, 3, padding=1)
        self.register_buffer("mask", torch.ones_like(self.weight.data))
        self.mask[:, :, 1, 1:] = 0
        self.mask[:, :, 2:] = 0

    def forward(self, x):
        self.weight.data *= self.mask
        return super().forward(x)


class Assigned(nn.Module):
    """A weight that is put in its bounds before each use, and a plain tensor read by its data."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 4))
        self.steps = torch.arange(5.0)

    def forward(self, x):
        self.weight.data = self.weight.data.clamp(-0.5, 0.5)
        return nn.functional.linear(x, self.weight) * self.steps.data


def test_a_masked_weight_is_folded():
    ported = port_of(Masked, [torch.randn(2, 3, 6, 8)])
    ported.check(torch.randn(3, 3, 6, 8))
    check_source(ported.port.model_py)
    assert "self.mask" not in ported.port.model_py


def test_what_is_assigned_is_written_and_what_is_read_is_traced():
    ported = port_of(Assigned, [torch.randn(2, 4)])
    ported.check(torch.randn(3, 4))
    assert "mx.clip(self.weight, -0.5, 0.5)" in ported.port.model_py
