"""Sizes made of an axis and a number of each instance's own."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from tests.random_modules.parity import check_source, port_of


class Bin(nn.Module):
    """Pyramid pooling: the map as a few cells, resized to what it was."""

    def __init__(self, width, cells):
        super().__init__()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(cells), nn.Conv2d(width, 2, 1), nn.ReLU())

    def forward(self, x):
        size = x.shape[2:]
        return F.interpolate(self.pool(x), size=size, mode="bilinear", align_corners=True)


class Pyramid(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.bins = nn.ModuleList(Bin(8, cells) for cells in (1, 2, 3, 6))

    def forward(self, x):
        x = self.stem(x)
        return torch.cat([x, *(level(x) for level in self.bins)], 1)


def image(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_pyramid_pooling_at_any_size():
    ported = port_of(Pyramid, (image(2, 3, 32, 24),))
    for shape in ((2, 3, 32, 24), (3, 3, 20, 41)):
        ported.check(image(*shape))
    check_source(ported.port.model_py)
    assert not ported.port.notes
    assert "/ (H - 1)" in ported.port.model_py
    assert "mx.broadcast_to(" in ported.port.model_py  # of one cell
