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


class Reduced(nn.Module):
    """Attention that looks at a map with fewer places; the author tells it the map's height and width."""

    def __init__(self, dim: int, heads: int, ratio: int):
        super().__init__()
        self.heads = heads
        self.q, self.kv = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.fewer, self.norm = nn.Conv2d(dim, dim, ratio, stride=ratio), nn.LayerNorm(dim)

    def forward(self, tokens, height, width):
        batch, length, dim = tokens.shape
        q = self.q(tokens).reshape(batch, length, self.heads, -1).permute(0, 2, 1, 3)
        maps = tokens.permute(0, 2, 1).reshape(batch, dim, height, width)
        few = self.norm(self.fewer(maps).reshape(batch, dim, -1).permute(0, 2, 1))
        k, v = (
            self.kv(few).reshape(batch, -1, 2, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        )
        found = F.scaled_dot_product_attention(q, k, v)
        return found.transpose(1, 2).reshape(batch, length, dim)


class Stage(nn.Module):
    def __init__(self, channels: int, dim: int, heads: int, ratio: int):
        super().__init__()
        self.down, self.norm = nn.Conv2d(channels, dim, 3, stride=2, padding=1), nn.LayerNorm(dim)
        self.layers = nn.ModuleList(Reduced(dim, heads, ratio) for _ in range(2))

    def forward(self, x):
        x = self.down(x)
        height, width = x.shape[2:]
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        for layer in self.layers:
            tokens = tokens + layer(tokens, height, width)
        return tokens.transpose(1, 2).reshape(x.shape[0], -1, height, width)


def test_one_head_and_several_are_one_class_at_any_size_of_a_map():
    """Maps of both stages have as many places at most sizes of a picture, and not at all."""

    def net():
        return nn.Sequential(Stage(3, 8, 1, 4), Stage(8, 16, 2, 2))

    result = port_of(net, (x(2, 3, 32, 32),), {"input": {0: "batch", 2: "height", 3: "width"}})
    for height, width in ((32, 48), (29, 37), (22, 46)):
        result.check(x(3, 3, height, width))
    source = result.port.model_py
    check_source(source)
    assert source.count("class Reduced") == source.count("self.heads = heads") == 1
    assert source.count("layer(tokens, H, W)") == 2


class Half(nn.Module):
    """Told a size that no map has any more."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(4, 4, 1)

    def forward(self, x, size):
        return F.interpolate(self.mix(x), size=size, mode="bilinear")


class ToHalf(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=4, padding=1)
        self.shrunk = Half()

    def forward(self, x):
        return self.shrunk(self.stem(x), [size // 2 for size in x.shape[2:]])


def test_a_size_that_is_worked_out_is_handed():
    image = x(2, 3, 32, 24)
    ported = port_of(ToHalf, (image,))
    ported.check(image)
    ported.check(x(3, 3, 21, 43))
    check_source(ported.port.model_py)
    assert not ported.port.notes
    assert "H // 2, W // 2)" in ported.port.model_py
