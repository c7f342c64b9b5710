"""Classes: loops over parts of lists, and buffers that are handed out."""

from itertools import pairwise

import mlx.core as mx
import mlx.nn as mlx_nn
import torch
from torch import nn

from tests.random_modules.parity import port_of


class Mixed(nn.Module):
    """One block of a net over clips, which changes the number of channels."""

    def __init__(self, inner: int, outer: int):
        super().__init__()
        self.left, self.right = nn.Conv3d(inner, outer, 1), nn.Conv3d(inner, outer, 1)

    def forward(self, x):
        return self.left(x).tanh() * self.right(x)


class Clips(nn.Module):
    """As S3D (Xie et al. 2018): convolutions and their norms, blocks, a pool, and more blocks."""

    def __init__(self):
        super().__init__()
        blocks = [Mixed(4, 5), Mixed(5, 6), Mixed(6, 8)]
        later = [Mixed(8, 9), Mixed(9, 7), nn.MaxPool3d(2), Mixed(7, 6), Mixed(6, 3)]
        widths = (3, 4, 5, 6, 4)
        normed = (
            nn.Sequential(nn.Conv3d(inner, outer, 1), nn.BatchNorm3d(outer), nn.ReLU())
            for inner, outer in pairwise(widths)
        )
        self.features = nn.Sequential(
            *normed,
            *blocks,
            nn.MaxPool3d(2),
            *later,
        )

    def forward(self, x):
        return self.features(x)


def test_a_loop_over_a_part_of_a_list_ends_where_the_part_does():
    """Members of the list that are lists themselves count as one each."""
    clip = torch.randn(2, 3, 4, 8, 8)
    ported = port_of(Clips, [clip])
    assert "self.features[8:10]:" in ported.port.model_py
    ported.check(clip)


class _HandsOut(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("loss", torch.tensor([3.0]), persistent=False)

    def forward(self, a):
        return a * 2, self.loss


def test_a_buffer_may_be_an_output():
    a = torch.randn(2, 3)
    port_of(_HandsOut, [a]).check(a)


class _Clip(nn.Module):
    """A token for each of several frames, beside a setting that has the same value and nothing to do with them."""

    def __init__(self, dim: int, num_frames: int):
        super().__init__()
        self.num_frames = num_frames
        self.fc, self.norm = nn.Linear(dim, dim), nn.LayerNorm(dim)

    def forward(self, x):
        batch = x.shape[0] // self.num_frames
        tokens = self.fc(x[:, 0]).view(batch, self.num_frames, x.shape[-1])
        return self.norm(tokens).mean(1)


class _Clips(nn.Module):
    def __init__(self, dim: int = 12, num_attention_heads: int = 6):
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, num_attention_heads, batch_first=True)
        self.clip = _Clip(dim, 6)

    def forward(self, x):
        return self.clip(self.attention(x, x, x)[0])


def test_a_number_that_the_author_named_is_no_other_setting_s():
    x = torch.randn(12, 5, 12)
    ported = port_of(_Clips, [x], {"x": {1: "length"}})
    clip = ported.port.model_py.partition("class Clip(")[2].partition("class ")[0]
    assert "self.num_frames" in clip
    assert "heads" not in clip
    ported.check(x)


class _Thinned(nn.Module):
    """Every fourth token, whatever the width is."""

    def __init__(self, dim: int, width: int):
        super().__init__()
        self.fc, self.norm = nn.Linear(dim, width), nn.LayerNorm(width)

    def forward(self, x):
        return self.norm(self.fc(x))[:, ::4]


class _Thinner(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = _Thinned(6, 4), _Thinned(10, 4)

    def forward(self, x):
        return self.first(x[..., :6]) + self.second(x)


def test_a_step_is_no_argument_that_has_its_value():
    x = torch.randn(2, 12, 10)
    ported = port_of(_Thinner, [x])
    assert "[:, ::4]" in ported.port.model_py
    ported.check(x)


class Indexed(nn.Module):
    """A bias that is looked up by a stored table, as Swin has it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("index", torch.tensor([3, 1, 2, 0, 2]))
        self.table = nn.Parameter(torch.randn(4, 6))
        self.proj = nn.Linear(6, 6)

    def forward(self, x):
        return self.proj(x) @ self.table[self.index].T


def test_a_table_of_whole_numbers_is_not_trained():
    net = port_of(Indexed, (torch.randn(2, 6),))
    net.check(torch.randn(3, 6))
    _, gradients = mlx_nn.value_and_grad(net.model, lambda x: net.model(x).sum())(mx.ones((2, 6)))
    assert sorted(gradients) == ["proj", "table"]
    assert 'self.freeze(keys=["index"], recurse=False)' in net.port.model_py
