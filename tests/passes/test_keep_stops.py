"""keep_stops: a fine-tune of the port gets the gradients of the source, which stop where its author stops them."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn_mlx
import numpy as np
import torch
from mlx.utils import tree_flatten
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
    given = x.clone().requires_grad_()
    ported.module.float()(given)[0].square().sum().backward()
    found = mx.grad(lambda a: mx.square(ported.model(a)[0]).sum())(mx.array(x.numpy()))
    assert given.grad is not None
    np.testing.assert_allclose(np.array(found), given.grad.numpy(), rtol=1e-4, atol=1e-5)


class Refined(nn.Module):
    """Boxes that each layer refines; the scores have their largest taken off, which softmax does anyway."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.table = nn.Parameter(torch.randn(3, 4))

    def forward(self, x):
        box, boxes = torch.sigmoid(x), []
        for layer in self.layers:
            new = torch.sigmoid(layer(x) + torch.logit(box, eps=1e-3))
            boxes.append(new)
            box = new.detach()
        scores = x @ self.table.detach().T
        scores = scores - scores.amax(dim=-1, keepdim=True).detach()
        return torch.stack(boxes), scores.softmax(-1)


def test_each_layer_has_a_gradient_of_its_own():
    x = torch.randn(5, 4)
    ported = port_of(Refined, (x,))
    ported.check(x)
    assert ported.port.model_py.count("mx.stop_gradient") == 1  # in a loop over the layers
    ported.module.float()(x)[0].square().sum().backward()
    found = mx_gradients(ported.model, x)
    for i, layer in enumerate(ported.module.layers):
        np.testing.assert_allclose(
            np.array(found[f"layers.{i}.weight"]), layer.weight.grad.numpy(), rtol=1e-4, atol=1e-5
        )


class Codebook(nn.Module):
    """VQ-VAE's losses: one moves the entries, the other what is looked up."""

    def __init__(self):
        super().__init__()
        self.book = nn.Embedding(6, 4)

    def forward(self, x):
        entry = self.book(torch.cdist(x, self.book.weight).argmin(-1))
        commitment = (entry.detach() - x).square().mean()
        return commitment * 0.25 + (entry - x.detach()).square().mean(), x + (entry - x).detach()


def test_entries_of_a_codebook_are_moved_by_their_own_loss_alone():
    x = torch.randn(5, 4)
    ported = port_of(Codebook, (x,))
    ported.check(x)
    ported.module.float()(x)[0].square().sum().backward()
    found = mx_gradients(ported.model, x)["book.weight"]
    truth = ported.module.book.weight.grad.numpy()
    np.testing.assert_allclose(np.array(found), truth, rtol=1e-4, atol=1e-5)


def mx_gradients(model, x):
    def loss(model):
        return mx.square(model(mx.array(x.numpy()))[0]).sum()

    return dict(tree_flatten(nn_mlx.value_and_grad(model, loss)(model)[1]))
