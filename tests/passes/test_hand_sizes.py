"""hand_sizes: modules that get a map's height and width as numbers work at every size, and get them in MLX too."""

from __future__ import annotations

import pytest
import torch.nn.functional as F  # noqa: N812
from torch import nn

from tests.passes.programs import x
from tests.random_modules.parity import check_source, port_of

DYNAMIC = {"x": {0: "batch", 2: "height", 3: "width"}}


class Depthwise(nn.Module):
    """A convolution over tokens, which are told where their rows end."""

    def __init__(self, dim: int):
        super().__init__()
        self.fc, self.conv = nn.Linear(dim, dim), nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, tokens, height, width):
        batch, _, dim = tokens.shape
        maps = self.fc(tokens).transpose(1, 2).reshape(batch, dim, height, width)
        return F.gelu(self.conv(maps).flatten(2).transpose(1, 2))


class Layer(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(dim), Depthwise(dim)

    def forward(self, tokens, height, width):
        return tokens + self.mix(self.norm(tokens), height, width)


class Tokens(nn.Module):
    def __init__(self, depth: int, dim: int = 6):
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 4, stride=4)
        self.norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(Layer(dim) for _ in range(depth))
        self.head = nn.Linear(dim, 5)

    def forward(self, x):
        x = self.patches(x)
        height, width = x.shape[2:]
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        for layer in self.layers:
            tokens = layer(tokens, height, width)
        return self.head(tokens)


@pytest.mark.parametrize("depth", [1, 3])
def test_rows_of_tokens_end_where_the_module_around_says(depth):
    result = port_of(lambda: Tokens(depth), (x(2, 3, 24, 16),), DYNAMIC)
    result.check(x(3, 3, 16, 40))
    check_source(result.port.model_py)
    source = result.port.model_py
    assert source.count("class Layer") == 1
    assert "def __call__(self, x: mx.array, H: int, W: int) -> mx.array:" in source
    assert not any("stayed fixed" in note for note in result.port.notes)
    assert "transpose" not in source
    if depth > 1:
        assert "for layer in self.layers:" in source
