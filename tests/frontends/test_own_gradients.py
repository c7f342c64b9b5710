"""Functions that an author differentiates himself."""

from __future__ import annotations

import torch
from torch import nn

from tests.random_modules.parity import port_of


class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sign()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() <= 1)


class Binary(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, x):
        return Sign.apply(Sign.apply(self.proj(x)) * 2)


def test_a_note_tells_of_a_gradient_that_the_port_has_not():
    net = port_of(Binary, (torch.randn(2, 4),))
    net.check(torch.randn(3, 4))
    assert [note for note in net.port.notes if "gradient of Sign " in note] == [net.port.notes[0]]
