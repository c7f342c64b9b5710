"""A port in train mode trains as its source does: BatchNorm's statistics, its gradients, several steps."""

from functools import partial

import mlx.core as mx
import mlx.nn as mlx_nn
import mlx.optimizers as optim
import numpy as np
import pytest
import torch
from mlx.utils import tree_flatten
from torch import nn

from porter.compile import compile_port
from porter.loading import instantiate
from porter.sources import SourceOptions
from porter.sources.built import built_source
from porter.weights import recipes

STEPS, RATE = 4, 0.05


class Net(nn.Module):
    """BatchNorm with a momentum of its own, without affine parameters, and of vectors; a residual between."""

    def __init__(self):
        super().__init__()
        self.stem, self.bn1 = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8, momentum=0.3)
        self.conv, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, affine=False)
        self.hidden, self.bn3 = nn.Linear(8, 6), nn.BatchNorm1d(6, eps=1e-3)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = torch.relu(self.bn1(self.stem(x)))
        x = x + self.bn2(self.conv(x))
        return self.head(torch.relu(self.bn3(self.hidden(x.mean((2, 3))))))


def ported(net):
    """The MLX module with the net's weights, and the net's tensors by the module's paths as arrays."""
    example = torch.randn(2, 3, 9, 9)
    source = built_source("net", SourceOptions(), "module", "Net", net, (example,), {})
    port = compile_port(source)
    weights = {p: recipes.evaluate(r, source.tensors) for p, r in port.recipes.items()}

    def state_of_source():
        now = built_source("net", SourceOptions(), "module", "Net", net, (example,), {}).tensors
        return {p: np.array(recipes.evaluate(r, now)) for p, r in port.recipes.items()}

    return instantiate(port.model_py, port.config, weights), state_of_source


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_batch_norm_trains_as_torchs(compiled):
    torch.manual_seed(0)
    net = Net()
    model, state_of_source = ported(net)
    batches = [(torch.randn(5, 3, 9, 9) + k, torch.randn(5, 4)) for k in range(STEPS)]

    net.train()
    descent = torch.optim.SGD(net.parameters(), RATE)
    expected = []
    for x, y in batches:
        descent.zero_grad()
        loss = ((net(x) - y) ** 2).mean()
        loss.backward()
        descent.step()
        expected.append(loss.item())

    model.train()
    optimizer = optim.SGD(RATE)
    loss_and_grad = mlx_nn.value_and_grad(model, lambda x, y: mx.square(model(x) - y).mean())

    def step(x, y):
        loss, gradients = loss_and_grad(x, y)
        optimizer.update(model, gradients)
        return loss

    if compiled:
        state = [model.state, optimizer.state]
        step = partial(mx.compile, inputs=state, outputs=state)(step)
    found = [
        step(mx.array(x.permute(0, 2, 3, 1).numpy()), mx.array(y.numpy())).item()
        for x, y in batches
    ]
    np.testing.assert_allclose(found, expected, rtol=2e-4)

    state = dict(tree_flatten(model.parameters()))
    for path, wanted in state_of_source().items():
        np.testing.assert_allclose(np.array(state[path]), wanted, atol=2e-5, err_msg=path)

    model.eval()
    net.eval()
    x = batches[0][0]
    with torch.no_grad():
        wanted = net(x).numpy()
    np.testing.assert_allclose(
        np.array(model(mx.array(x.permute(0, 2, 3, 1).numpy()))), wanted, atol=2e-4
    )
