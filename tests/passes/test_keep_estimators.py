"""keep_estimators: a fine-tune of the port gets the gradients of the source's straight-through estimators."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import torch
from torch import nn

from tests.random_modules.parity import port_of


class Rounded(nn.Module):
    """Rounds what a layer gives, with its gradient; of the loss beside it one side is held fixed."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        x = self.inner(x)
        rounded = torch.round(x * 4) / 4
        held = (x - 1).detach()
        return x + (rounded - x).detach(), (rounded.detach() - x).square() + 0 * held


def test_an_estimator_keeps_its_gradient():
    x = torch.randn(3, 4)
    ported = port_of(Rounded, (x,))
    ported.check(x)
    assert ported.port.model_py.count("mx.stop_gradient") == 1
    given = x.clone().requires_grad_()
    ported.module.float()(given)[0].square().sum().backward()
    found = mx.grad(lambda a: mx.square(ported.model(a)[0]).sum())(mx.array(x.numpy()))
    assert given.grad is not None
    np.testing.assert_allclose(np.array(found), given.grad.numpy(), rtol=1e-4, atol=1e-5)
