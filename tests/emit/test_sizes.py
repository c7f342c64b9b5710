"""Sizes in forwards: which come from a shape, which from an attribute, which is -1; at several sizes each."""

from __future__ import annotations

import pytest
import sympy
import torch
from torch import nn

from porter.emit.sizes import Dims, author_sizes, splits
from porter.ir import Location, Value
from porter.style import check
from tests.passes.factoring import ported
from tests.passes.programs import Fn, reshape, x
from tests.random_modules.parity import check_source, port_of

N, H = sympy.symbols("n h", positive=True, integer=True)


@pytest.mark.parametrize(
    ("source", "target", "found"),
    [
        ((2, 5, 12), (2, 5, 3, 4), {2: (2, 3)}),
        ((N, H * 2, 12), (N, H, 2, 3, 4), {1: (1, 2), 3: (2, 4)}),
        ((2, 12), (2, 2, 2, 3), {}),
        ((2, 3, 4), (6, 4), {}),
    ],
)
def test_split_axes(source, target, found):
    assert splits(reshape(source, target)) == found


def test_what_the_author_wrote_for_a_size(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(
        "y = x.view(b, -1, self.heads, self.dim)\nz = x.reshape((b, self.dim))\nw = f(x)\n"
    )
    location = Location(str(path), 1, "forward")
    assert author_sizes(location, 4) == [None, None, "heads", "dim"]
    assert author_sizes(location, 3) == [None] * 3
    assert author_sizes(Location(str(path), 2, "forward"), 2) == [None, "dim"]
    assert author_sizes(Location(str(path), 3, "forward"), 2) == [None, None]
    assert author_sizes(None, 2) == [None, None]


class Heads(nn.Module):
    def __init__(self, dim: int = 12, num_heads: int = 3):
        super().__init__()
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.num_heads, self.head_dim = num_heads, dim // num_heads

    def forward(self, a):
        b, n, c = a.shape
        q, k, v = (
            self.qkv(a)
            .reshape(b, n, 3, self.num_heads, self.head_dim)
            .permute(2, 0, 3, 1, 4)
            .unbind(0)
        )
        return self.proj(
            nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        )


def split_heads_unevenly(a):
    return a.reshape(a.shape[0], a.shape[1], 2, 6).transpose(1, 2).flatten(2)


TEXTS = {
    "heads": (Heads, {}),
    "uneven": (lambda: Fn(split_heads_unevenly), {}),
    "flatten all": (lambda: Fn(lambda a: a.flatten(1)), {}),
    "pairs of rows": (lambda: Fn(lambda a: a.reshape(-1, 2, 6)), {}),
    "half the length": (lambda: Fn(lambda a: a[:, : a.shape[1] // 2]), {}),
    "the last but one": (lambda: Fn(lambda a: a[:, a.shape[1] - 2]), {}),
    "zeros of the shape": (lambda: Fn(lambda a: a + torch.zeros(a.shape[1], 1)), {}),
    "positions": (lambda: Fn(lambda a: a + torch.arange(a.shape[1])[:, None]), {}),
    "divided by the length": (lambda: Fn(lambda a: a.sum(1) / a.shape[1]), {}),
    "causal": (lambda: Fn(lambda a: a.new_ones(a.shape[1], a.shape[1]).tril() @ a), {}),
    "repeated": (lambda: Fn(lambda a: a[:, :1].expand(-1, a.shape[1], -1) - a), {}),
    "doubled": (
        lambda: Fn(lambda a: torch.cat([a, a], 1).reshape(a.shape[0], 2, a.shape[1], 12)),
        {},
    ),
    "batch times length": (lambda: Fn(lambda a: a.reshape(-1, 12) @ a.new_ones(12, 2)), {}),
    "split and merged": (
        lambda: Fn(lambda a: a.view(*a.shape[:2], 3, 4).transpose(2, 3).reshape(*a.shape[:2], 12)),
        {},
    ),
    "square": (lambda: Fn(lambda a: a @ a.mT), {}),
    "two widths": (lambda: Fn(lambda a: a.reshape(a.shape[0], -1, 4).sum(1)), {}),
}


class Text(nn.Module):
    """One function with an input whose axes have names (a function's *args have none)."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, a):
        return self.inner(a)


@pytest.mark.parametrize(("build", "options"), TEXTS.values(), ids=TEXTS)
def test_every_length_and_batch(build, options):
    result = port_of(lambda: Text(build()), (x(2, 6, 12),), {"a": {0: "batch", 1: "length"}})
    assert result.port.notes == []
    assert result.port.inputs[0]["shape"] == ["batch", "length", 12]
    for batch, length in ((2, 6), (3, 6), (1, 6), (2, 10), (5, 4)):
        result.check(x(batch, length, 12))
    check_source(result.port.model_py)


class Scaled(nn.Module):
    """Does one of several things, as its caller says."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.outer = nn.Linear(4, 4)

    def forward(self, x, scale, both):
        x = self.inner(x) * scale
        return self.outer(x).relu() if both else x


@pytest.mark.parametrize("both", [True, False], ids=["numbers", "parts"])
def test_a_module_called_with_different_settings(both):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scaled = Scaled()
            self.between = nn.Linear(4, 4)

        def forward(self, x):
            return self.scaled(self.between(self.scaled(x, 2.0, both)), 3.0, True)

    inputs = torch.randn(2, 4)
    port_of(Net, [inputs]).check(inputs)


class Grid(nn.Module):
    """Tokens on a square, merged axes, and a window that a local names."""

    def __init__(self, width: int = 6, cell: int = 4):
        super().__init__()
        self.mix = nn.Linear(width, width)
        self.cell = cell

    def forward(self, a):
        b, n, c = a.shape
        side = int(n**0.5)
        cell = self.cell
        x = torch.cumsum(self.mix(a).reshape(b, side, side, c), dim=1)
        x = x.reshape(b, side // cell, cell, side // cell, cell, c).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(b, (side // cell) ** 2, cell * cell * c)


def test_no_reshape_has_a_number_that_an_array_or_a_name_gives():
    source = port_of(Grid, (x(2, 64, 6),)).port.model_py
    check_source(source)
    assert not [f for f in check(source) if f.check == "S4"], source
    assert "int(L**0.5)" in source


class Radial(nn.Module):
    """Weights for pairs of channels and some frequencies: with one of these, a square."""

    def __init__(self, frequencies: int):
        super().__init__()
        self.frequencies, self.net = frequencies, nn.Linear(5, 36 * frequencies)

    def forward(self, x):
        return self.net(x).reshape(x.shape[0], x.shape[1], 6, 1, 6, 1, self.frequencies).sum(-1)


def test_a_square_is_one_in_every_instance():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.more = Radial(1), Radial(3)

        def forward(self, x):
            return self.one(x) + self.more(x)

    ported(Net, 2, 4, 5)  # runs and compares


def test_a_size_of_no_instance_is_no_axis():
    """Any axis would fit: what an optional part makes has no size where the part is lacking."""
    array = Value((2, N), "float32")
    assert Dims(None, None, {(array, 1): "N"}).find({}, [array]) is None


class OneHead(nn.Module):
    """With one head the transposition behind the view is none, and the tokens stand where the author wrote heads."""

    def __init__(self, dim: int, dim_head: int = 32):
        super().__init__()
        self.num_heads = dim // dim_head
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        batch, height, width, dim = x.shape
        x = self.qkv(x).view(batch, -1, self.num_heads, 3 * dim // self.num_heads).transpose(1, 2)
        x = nn.functional.scaled_dot_product_attention(*x.chunk(3, dim=3))
        return self.proj(x.transpose(1, 2).reshape(batch, height, width, dim))


def test_a_name_that_the_source_has_for_another_number_is_not_taken():
    ported = port_of(lambda: nn.Sequential(OneHead(32)), (torch.randn(2, 8, 8, 32),))
    ported.check(torch.randn(2, 8, 8, 32))
    assert "num_heads" not in ported.port.model_py


def test_parts_of_one_array_are_measured_once():
    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)

        def forward(self, x):
            b, t, h, w, c = x.shape
            qkv = self.qkv(x).reshape(b, t, h, w, 3, 2, 4).permute(4, 0, 1, 5, 2, 3, 6)
            q, k, v = (part.reshape(b * t, 2, h * w, 4) for part in qkv.unbind(0))
            y = nn.functional.scaled_dot_product_attention(q, k, v)
            return self.proj(y.transpose(1, 2).reshape(b, t, h, w, c))

    ported = port_of(Windows, (torch.randn(2, 3, 4, 5, 8),), {"x": {0: "batch"}})
    ported.check(torch.randn(2, 3, 4, 5, 8))
    text = ported.port.model_py
    assert "k.shape" not in text
    assert "v.shape" not in text
