"""Layouts through the author's own views: heads, windows, patches, rows."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from porter.style import check
from tests.passes.programs import ops, piped, x
from tests.random_modules.parity import port_of


class HeadsToImage(nn.Module):
    """Attention whose values come back as an image: LowFormer, EfficientFormerV2."""

    def __init__(self, dim: int = 6):
        super().__init__()
        self.qkv, self.last = nn.Conv2d(3, 3 * dim, 1), nn.Conv2d(dim, dim, 1)

    def forward(self, a):
        b, _, h, w = a.shape
        q, k, v = self.qkv(a).reshape(b, 2, 9, h * w).permute(0, 1, 3, 2).chunk(3, dim=3)
        v = F.scaled_dot_product_attention(q, k, v)
        return self.last(v.permute(0, 1, 3, 2).reshape(b, -1, h, w)).mean((2, 3))


class UnfoldedPatches(nn.Module):
    """Patches cut out by nn.Unfold, then a conv in each of them: TNT."""

    def __init__(self):
        super().__init__()
        self.unfold, self.proj = nn.Unfold(4, stride=4), nn.Conv2d(3, 5, 3)

    def forward(self, a):
        patches = self.unfold(a).transpose(1, 2)
        return self.proj(patches.reshape(-1, 3, 4, 4)).mean((2, 3))


class PooledQueries(nn.Module):
    """Queries that are pooled as an image, keys and values that are not: Hiera of SAM 2."""

    def __init__(self, dim: int = 6):
        super().__init__()
        self.qkv, self.pool = nn.Linear(dim, 3 * dim), nn.MaxPool2d(2)

    def forward(self, a):
        b, h, w, _ = a.shape
        q, k, v = self.qkv(a).reshape(b, h * w, 3, 2, 3).unbind(2)
        q = self.pool(q.reshape(b, h, w, 6).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        q = q.reshape(b, -1, 2, 3).transpose(1, 2)
        return F.scaled_dot_product_attention(q, k.transpose(1, 2), v.transpose(1, 2)).mean((1, 2))


def test_unfolded_patches_are_one_transpose():
    program = piped(UnfoldedPatches(), [x(2, 3, 8, 12)])
    assert program.inputs[0].permute == (0, 2, 3, 1)
    assert ops(program)[".transpose"] == 1


def test_pooled_queries_stay_channels_last():
    assert ops(piped(PooledQueries(), [x(2, 4, 8, 6)]))[".transpose"] == 3  # heads of q, k and v


def test_heads_become_an_image_with_one_transpose():
    program = piped(
        HeadsToImage(), [x(2, 3, 4, 5)], dynamic={"a": {0: "batch", 2: "height", 3: "width"}}
    )
    assert ops(program)[".transpose"] == 4  # q, k, v, and the values


class PooledHeads(nn.Module):
    """Queries, keys and values that a convolution pools, each head as an image: MViTv2."""

    def __init__(self, heads: int, dim: int = 12):
        super().__init__()
        self.heads, self.qkv = heads, nn.Linear(dim, 3 * dim)
        self.pools = nn.ModuleList(nn.Conv2d(dim // heads, dim // heads, 3) for _ in range(3))

    def forward(self, a):
        b = len(a)
        qkv = self.qkv(a).reshape(b, 30, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        pooled = [
            pool(y.reshape(b * self.heads, 5, 6, -1).permute(0, 3, 1, 2))
            for pool, y in zip(self.pools, qkv, strict=True)
        ]
        q, k, v = (y.reshape(b, self.heads, -1, 12).transpose(2, 3) for y in pooled)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("heads", [1, 3])
def test_pooled_heads_are_turned_as_they_are_unpacked(heads):
    ported = port_of(lambda: PooledHeads(heads), [x(2, 30, 12)], dynamic=None)
    ported.check(x(2, 30, 12, seed=1))
    assert not [f for f in check(ported.port.model_py) if f.check == "S5"]
    assert ported.port.model_py.count(".transpose(") <= 2


class SpaceToDepth(nn.Module):
    def __init__(self, side: int = 4):
        super().__init__()
        self.side = side

    def forward(self, a):
        B, C, H, W = a.shape  # noqa: N806
        a = a.view(B, C, H // self.side, self.side, W // self.side, self.side)
        a = a.permute(0, 3, 5, 1, 2, 4).contiguous()
        return a.view(B, -1, H // self.side, W // self.side)


class Stem(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(48, 5, 3)
        self.norm = nn.BatchNorm2d(5)

    def forward(self, a):
        return F.relu(self.norm(self.conv(a)))


def test_pixels_become_channels_in_one_transpose_where_the_author_writes_it():
    ported = port_of(
        lambda: nn.Sequential(SpaceToDepth(), Stem()), (torch.randn(2, 3, 32, 48),),
        {"input": {0: "batch", 2: "height", 3: "width"}},
    )  # fmt: skip
    text = ported.port.model_py
    assert text.count(".transpose(") == 1
    assert ".transpose(" in text.partition("class Model(")[2]
    assert "self.side, W // self.side, self.side, 3)" in text
    ported.check(torch.randn(1, 3, 64, 36))


class Snake(nn.Module):
    def __init__(self, dim: int = 6):
        super().__init__()
        self.alpha = nn.Parameter(torch.rand(1, dim, 1))

    def forward(self, a):
        return a + (self.alpha + 1e-9).reciprocal() * torch.sin(self.alpha * a).pow(2)


def test_parameters_that_are_added_first_are_stored_as_the_layout_has_them():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.snake, self.conv = Snake(), nn.Conv1d(6, 6, 3)

        def forward(self, a):
            return self.conv(self.snake(a))

    result = port_of(Net, (x(2, 6, 8),))
    result.check(x(2, 6, 8))
    assert "transpose(" not in result.port.model_py
    assert "mx.zeros((1" not in result.port.model_py


def test_a_sound_without_channels_gets_them_last():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(1, 6, 3)

        def forward(self, a):
            return self.conv(a.unsqueeze(1))

    result = port_of(Net, (x(2, 8),))
    result.check(x(2, 8))
    assert "self.conv(a[..., None])" in result.port.model_py


def test_glu_along_channels_needs_no_transpose():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.deep = nn.Conv1d(6, 12, 1), nn.Conv1d(6, 6, 3, groups=6)

        def forward(self, a):
            return self.deep(F.glu(self.wide(a.transpose(1, 2)), dim=1)).transpose(1, 2)

    result = port_of(Net, (x(2, 8, 6),))
    result.check(x(2, 8, 6))
    assert "transpose(" not in result.port.model_py


def test_each_module_turns_what_it_is_given_by_itself():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = nn.Linear(6, 6)

        def forward(self, a, table):
            heads = self.q(a).view(2, 5, 2, 3).transpose(1, 2)
            return (heads * table).transpose(1, 2).reshape(2, 5, 6)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(Scaled() for _ in range(3))

        def forward(self, a, table):
            for layer in self.layers:
                a = a + layer(a, table)
            return a

    result = port_of(Net, (x(2, 5, 6), x(2, 1, 5, 3)))
    result.check(x(2, 5, 6), x(2, 1, 5, 3))
    assert result.port.model_py.count("class Scaled") == 1
    assert "for layer in self.layers" in result.port.model_py


def test_channels_of_windows_that_are_put_together_stay_last():
    """As in torchvision's MaxViT: tokens of windows become a feature map, channels first, for a convolution."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix, self.conv = nn.Linear(6, 6), nn.Conv2d(6, 4, 3)

        def forward(self, a):
            b, c, h, w = a.shape
            a = a.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1)
            a = self.mix(a.reshape(b, h * w // 4, 4, c)).reshape(b, h // 2, w // 2, 2, 2, c)
            a = a.permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)
            return self.conv(a) + self.conv(a.relu())

    result = port_of(Net, (x(2, 6, 8, 4),))
    result.check(x(2, 6, 8, 4))
    assert result.port.model_py.count("transpose(") == 2
    assert [f for f in check(result.port.model_py) if f.check == "S5"] == []


def test_a_row_beside_an_image_stays_along_its_width():
    conv = nn.Conv2d(3, 8, 3, padding=1)
    pixels = torch.randn(2, 3, 8, 8)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv

        def forward(self, a, row):
            return self.conv(a) * row + row[0].cumsum(0)[None]

    port_of(Net, [pixels, torch.randn(1, 8)]).check(pixels, torch.randn(1, 8))


class _OneWindow(nn.Module):
    """Tokens of a feature map as one window: the partition moves axes of size 1 alone."""

    def __init__(self):
        super().__init__()
        self.conv, self.mix = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 6)

    def forward(self, a):
        tokens = self.conv(a).flatten(2).transpose(1, 2)
        b, _, c = tokens.shape
        windows = tokens.view(b, 1, 4, 1, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 4, c)
        mixed = self.mix(windows.flatten(1, 2)).softmax(1)
        back = mixed.view(b, 1, 1, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b, 16, c)
        return tokens + back


@pytest.mark.parametrize("batch", [1, 2])
def test_one_window_is_read_as_it_is_stored(batch):
    pixels = torch.randn(batch, 3, 4, 4)
    ported = port_of(_OneWindow, [pixels])
    ported.check(pixels)
    assert ".transpose(" not in ported.port.model_py


class Squeezed(nn.Module):
    """Pixels that become channels, twice, with losses summed on the way: Glow's blocks."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.randn(1, 12, 1, 1))
        self.first, self.prior = nn.Conv2d(12, 12, 1), nn.Conv2d(12, 12, 1)

    def forward(self, a):
        b, c, h, w = a.shape
        a = a.view(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).contiguous()
        a = a.view(b, 4 * c, h // 2, w // 2)
        loss = self.shift.sum() * (h * w)
        a = self.first(torch.exp(self.shift) * (a + self.shift))
        mean = self.prior(torch.zeros_like(a))
        return a.sum((2, 3)), loss + (a - mean).square().view(b, -1).sum(1)


def test_pixels_become_channels_last():
    found = ops(piped(Squeezed(), [x(2, 3, 8, 10)]))
    assert found[".transpose"] == 1  # of the pixels themselves


class ChannelAttention(nn.Module):
    """Attention of channels, whose heads are merged before a convolution: Restormer."""

    def __init__(self, heads=2):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Conv2d(6, 18, 1, bias=False), nn.Conv2d(6, 6, 1)

    def forward(self, a):
        b, _, h, w = a.shape
        q, k, v = (part.reshape(b, self.heads, -1, h * w) for part in self.qkv(a).chunk(3, 1))
        weights = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT).softmax(-1)
        return self.out((weights @ v).reshape(b, -1, h, w))


def test_heads_are_merged_where_a_convolution_reads_them():
    ported = port_of(ChannelAttention, [torch.randn(2, 6, 8, 10)])
    ported.check(torch.randn(2, 6, 8, 10))
    assert not [f for f in check(ported.port.model_py) if f.check == "S5"]


class SpatialGate(nn.Module):
    """A gate by the largest and the mean of the channels: CBAM."""

    def __init__(self):
        super().__init__()
        self.first, self.gate = nn.Conv2d(3, 6, 3), nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, a):
        a = self.first(a)
        pooled = torch.cat((torch.max(a, 1)[0].unsqueeze(1), torch.mean(a, 1).unsqueeze(1)), dim=1)
        return a * torch.sigmoid(self.gate(pooled))


class Modulated(nn.Module):
    """A convolution with weights of its own for each sample, twice, as groups: StyleGAN 2."""

    def __init__(self):
        super().__init__()
        self.style, self.weight = nn.Linear(4, 6), nn.Parameter(torch.randn(1, 6, 6, 3, 3))

    def forward(self, a, style):
        b, _, h, w = a.shape
        weights = self.weight * (self.style(style)[:, None, :, None, None] + 1)
        for _ in range(2):
            a = F.conv2d(a.reshape(1, -1, h, w), weights.reshape(-1, 6, 3, 3), padding=1, groups=b)
            a = F.relu(a.reshape(b, -1, h, w))
        return a


def test_pooled_channels_stand_last():
    assert ops(piped(SpatialGate(), [x(2, 3, 8, 10)]))[".transpose"] == 0


class Turned(Modulated):
    """The same, read in torch's order."""

    def forward(self, a, style):
        return F.pad(super().forward(a, style), (1, 2)).flatten(1).cumsum(1)


def test_samples_that_are_groups_are_read_in_another_order():
    a, style = torch.randn(2, 6, 5, 7), torch.randn(2, 4)
    port_of(Turned, [a, style]).check(a, style)


def test_samples_that_are_groups_come_back_first():
    a, style = torch.randn(2, 6, 5, 7), torch.randn(2, 4)
    ported = port_of(Modulated, [a, style])
    ported.check(a, style)
    assert "transpose(2, 0, 1, 3)" in ported.port.model_py
    assert not [f for f in check(ported.port.model_py) if f.check == "S5"]
