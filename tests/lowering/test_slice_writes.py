"""Writes into slices: a statement where the array is new, parts joined where it is not; at other sizes too."""

import pytest
import torch
from torch import nn

from tests.random_modules.parity import check_source, port_of

SIZES = {"x": {0: "batch", 1: "length"}}


class Regions(nn.Module):
    """What tells the windows of a shifted map apart, as in Swin (Liu et al. 2021)."""

    def forward(self, x):
        size = x.shape[1]
        regions = x.new_zeros((size, size))
        count = 0
        for rows in ((0, -4), (-4, -2), (-2, None)):
            for columns in ((0, -4), (-4, -2), (-2, None)):
                regions[rows[0] : rows[1], columns[0] : columns[1]] = count
                count += 1
        return x + regions.sum(dim=1)[..., None]


class Twice(nn.Module):
    """The array is read between two writes and after them."""

    def forward(self, x):
        flags = torch.zeros(x.shape[1], 3)
        flags[1:, 0] = 1
        before = flags.sum()
        flags[-1, 1:] = 2.5
        return x * before + flags


class OfParameter(nn.Module):
    """A part of a copy of a parameter is zero, as of the keys' bias in Swin V2."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3))

    def forward(self, x):
        weight = self.weight.clone()
        weight[1:3].zero_()
        weight[0, 2] = 5.0
        return x @ weight.T


class Seen(nn.Module):
    """A view made before the write shows what is written."""

    def forward(self, x):
        flags = torch.zeros(x.shape[1], 3)
        column = flags[:, 1]
        flags[2:, 1:] = 4
        return x + column[:, None]


class Stepped(nn.Module):
    def forward(self, x):
        flags = torch.ones(x.shape[1], 3, dtype=torch.bool)
        flags[::2, 1] = False
        return torch.where(flags, x, 0.5)


class Copied(nn.Module):
    """Arrays are written into arrays of their own, one of them a row."""

    def forward(self, x):
        out = torch.zeros_like(x)
        out[:, 1:, :2] = x[:, :-1, 1:]
        out[:, 0] = x[:, -1]
        return out


class Alternating(nn.Module):
    """Every other column of a parameter, of an input and of what is read again is another array's."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(8, 3))

    def forward(self, x):
        table = self.table[: x.shape[1]].clone() if x.shape[1] < 8 else self.table.clone()
        table[:, ::2] = x[0, :8, ::2]
        y = x * 2
        z = y.clone()
        z[..., 1::2] = x[..., 1::2]
        w = x.clone()
        w[..., 0:2:2] = z[..., 0:2:2]
        return y + z + w, table


class Whole(torch.nn.Module):
    """Writes all of an array, of which only its own sizes tell."""

    def forward(self, x):
        padded = torch.zeros([x.shape[0], x.shape[1], x.shape[2]], dtype=x.dtype)
        padded[:, : x.shape[1], : x.shape[2]] = x
        return padded * 2


@pytest.mark.parametrize("build", [Whole, Regions, Twice, OfParameter, Seen, Stepped, Copied])
def test_writes(build):
    x = torch.randn(2, 8, 3)
    ported = port_of(build, [x], SIZES)
    check_source(ported.port.model_py)
    ported.check(x)
    ported.check(torch.randn(3, 11, 3))


def test_a_new_array_is_painted_as_the_author_does():
    text = port_of(Regions, [torch.randn(2, 8, 3)], SIZES).port.model_py
    for line in ("regions[-4:-2, :-4] = 3.0", "regions[-2:, -4:-2] = 7.0"):
        assert line in text
    assert "mx.concatenate" not in text
    assert "= 0.0" not in text


def test_a_step_is_written_as_the_author_does():
    x = torch.randn(2, 8, 3)
    ported = port_of(Alternating, [x])
    check_source(ported.port.model_py)
    for _ in range(2):  # neither the parameter nor the input is written into
        ported.check(x)
    assert "[:, :, 1::2] = x[:, :, 1::2]" in ported.port.model_py


class Checkerboard(nn.Module):
    """Every other pixel of two axes at once, as checkerboard contexts in image compression have it (He et al. 2021)."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        y = self.a(x)
        n, c, h, w = y.shape
        packed = y.new_zeros(2, n, c, h, w // 2)
        packed[0, ..., 0::2, :] = y[..., 0::2, 0::2]
        packed[0, ..., 1::2, :] = y[..., 1::2, 1::2]
        packed[1, ..., 0::2, :] = y[..., 0::2, 1::2]
        packed[1, ..., 1::2, :] = y[..., 1::2, 0::2]
        out = torch.zeros_like(y)
        out[..., 0::2, 0::2] = packed[0, ..., 0::2, :]
        out[..., 1::2, 1::2] = packed[0, ..., 1::2, :]
        masked = y.clone()
        masked[..., 0::2, 1::2] = 0
        masked[..., 1::2, 0::2] = self.b(y)[..., 1::2, 0::2]
        return self.b(out), packed, masked


def test_steps_along_two_axes():
    sizes = {"x": {0: "batch", 2: "height", 3: "width"}}
    ported = port_of(Checkerboard, (torch.randn(2, 3, 8, 10),), sizes)
    ported.check(torch.randn(2, 3, 8, 10))
    ported.check(torch.randn(3, 3, 4, 6))
    check_source(ported.port.model_py)
    assert "out[:, :, ::2, ::2] = " in ported.port.model_py
