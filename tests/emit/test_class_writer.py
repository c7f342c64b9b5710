"""Classes: loops over parts of lists, and buffers that are handed out."""

from itertools import pairwise

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
