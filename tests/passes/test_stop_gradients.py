"""Gradients where whole numbers are made of floats: those of torch."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from tests.random_modules.parity import port_of


class Router(nn.Module):
    """The two best of four experts."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(6, 4)
        self.experts = nn.Parameter(torch.randn(4, 6, 6))

    def forward(self, x):
        scores, chosen = self.gate(x).softmax(-1).topk(2)
        return (torch.einsum("ni,nkio->nko", x, self.experts[chosen]) * scores[..., None]).sum(1)


class Best(nn.Module):
    """Rows by the place of the largest."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(6, 5)

    def forward(self, x):
        return self.table(x.argmax(-1)) * x.sum(-1, keepdim=True)


class Counted(nn.Module):
    """Whole numbers that are added up."""

    def forward(self, x):
        return x + (x * 8).long().float() * 0.5


class Middle(nn.Module):
    """Rows between whole places, which a condition on the numbers chooses."""

    def forward(self, x):
        return torch.quantile(x, 0.3, dim=0) * x


class Looked(nn.Module):
    """A picture read where it says."""

    def __init__(self):
        super().__init__()
        self.place = nn.Conv2d(6, 2, 1)

    def forward(self, x):
        picture = x.reshape(1, 6, 4, -1)
        grid = torch.tanh(self.place(picture)).permute(0, 2, 3, 1)
        return F.grid_sample(picture, grid, align_corners=False)


@pytest.mark.parametrize("net", [Router, Best, Counted, Middle, Looked])
def test_gradients_are_torchs(net: Any) -> None:
    x = torch.randn(8, 6)
    ported = port_of(net, (x,), {"x": {}})
    ported.check(x)
    given = x.clone().requires_grad_()
    output = ported.module(given)
    noise = torch.randn(output.shape)
    (wanted,) = torch.autograd.grad((output * noise).sum(), given)
    permute = ported.port.outputs[0]["permute"]
    factor = mx.array(noise.numpy() if permute is None else noise.numpy().transpose(permute))
    found = mx.grad(lambda y: (ported.model(y) * factor).sum())(mx.array(x.numpy()))
    assert np.allclose(np.array(found), wanted.numpy(), rtol=1e-3, atol=1e-4)


def test_what_no_float_comes_out_of_is_left_alone() -> None:
    class Classes(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 4)

        def forward(self, x):
            return self.fc(x).argmax(-1)

    assert "mx.stop_gradient(" not in port_of(Classes, (torch.randn(3, 6),)).port.model_py
