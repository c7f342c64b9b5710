"""Sizes made of an axis and a number of each instance's own."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F  # noqa: N812
from sympy import Min, Symbol
from torch import nn

from porter.emit.literals import Code
from porter.emit.numbered_sizes import with_number
from porter.emit.syntax import plain
from porter.ir import Value
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


class Finer(nn.Module):
    """Places between the tokens, as many as the module says."""

    def __init__(self, width, times):
        super().__init__()
        self.times, self.mix = times, nn.Linear(width, width)

    def forward(self, x):
        places = torch.arange(x.shape[1] * self.times) / (x.shape[1] * self.times - 1)
        return self.mix(x) + torch.sin(places).reshape(-1, self.times).sum(1)[:, None]


def finer():
    return nn.Sequential(*(Finer(6, times) for times in (2, 3, 5)))


def image(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_pyramid_pooling_at_any_size():
    ported = port_of(Pyramid, (image(2, 3, 32, 24),))
    for shape in ((2, 3, 32, 24), (3, 3, 20, 41)):
        ported.check(image(*shape))
    check_source(ported.port.model_py)
    assert not ported.port.notes
    assert "resize_linear(" in ported.port.model_py
    assert "mx.broadcast_to(" in ported.port.model_py  # of one cell


N, H = (Symbol(name, integer=True, positive=True) for name in "NH")


def test_a_size_times_a_number_of_each_instance():
    ported = port_of(finer, (image(2, 7, 6),))
    ported.check(image(3, 4, 6))
    check_source(ported.port.model_py)
    assert not ported.port.notes
    assert "self.times * L" in ported.port.model_py


def test_a_bound_that_moves_with_a_setting_has_its_name():
    """The example's model has 6 candidates, another size of it 10."""
    rows = Value((N,), "float32", name="rows")
    measured = SimpleNamespace(
        text=lambda vector, order, real: plain(Code("N")) if {*vector.values()} == {N} else None
    )
    arguments = SimpleNamespace(
        resolve=lambda vector, *_, **__: "self.candidates" if vector == {0: 6, 1: 10} else "?"
    )
    found = with_number(measured, arguments, {0: Min(6, N), 1: Min(10, N)}, [rows], False)
    assert found is not None
    assert found.code == "min(self.candidates, N)"
    assert with_number(measured, arguments, {0: Min(6, N), 1: N}, [rows], False) is None
    assert with_number(measured, arguments, {0: Min(6, N, H), 1: Min(6, N)}, [rows], False) is None


class Strided(nn.Module):
    """Points a stride apart, of a map that has as many channels by chance."""

    def __init__(self, channels: int = 16):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return self.conv(x) + torch.arange(0, 16 * x.shape[-1], 16, dtype=x.dtype)


class Points(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 1), Strided()

    def forward(self, x):
        return self.head(self.stem(x))


def test_a_stride_is_no_number_of_channels():
    image = torch.randn(2, 3, 8, 8)
    ported = port_of(Points, [image])
    ported.check(image)
    assert "mx.arange(0, 16 * W, 16" in ported.port.model_py
