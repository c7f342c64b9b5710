"""What layers are called in their class: those of the module, and those that a caller hands over."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.random_modules.parity import port_of


class Refined(nn.Module):
    """`decoder(x, self.heads)`: layers that the model keeps and hands to the module that calls them."""

    def __init__(self, heads, own: bool = False):
        super().__init__()
        self.decoder, self.heads, self.proj = Refining(own), heads, nn.Linear(5, 6)

    def forward(self, x):
        return self.decoder(self.proj(x), self.heads)


class Refining(nn.Module):
    def __init__(self, own: bool = False):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.heads = nn.LayerNorm(6) if own else None

    def forward(self, x, heads):
        found = []
        x = self.heads(x) if self.heads is not None else x
        for i, layer in enumerate(self.layers):
            x = torch.relu(layer(x))
            found.append(heads[i](x) if isinstance(heads, nn.ModuleList) else heads(x))
        return torch.stack(found, dim=1)


@pytest.mark.parametrize("several", [True, False])
def test_layers_that_are_handed_over_are_kept_where_they_are_called(several):
    heads = nn.ModuleList(nn.Linear(6, 4) for _ in range(3)) if several else nn.Linear(6, 4)
    result = port_of(lambda: Refined(heads), (torch.randn(2, 7, 5),))
    result.check(torch.randn(2, 7, 5))
    assert "weight" not in result.port.model_py
    assert sum(".heads" in path for path in result.port.recipes) == (6 if several else 2)
    assert not any(path.startswith("heads") for path in result.port.recipes)


@pytest.mark.parametrize("several", [True, False])
def test_a_layer_that_is_handed_over_beside_one_of_that_name(several):
    heads = nn.ModuleList(nn.Linear(6, 4) for _ in range(3)) if several else nn.Linear(6, 4)
    result = port_of(lambda: Refined(heads, own=True), (torch.randn(2, 7, 5),))
    result.check(torch.randn(2, 7, 5))
    assert "self.given_heads" in result.port.model_py
