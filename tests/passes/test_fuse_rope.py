"""fuse_rope: the ways in which rotary embeddings are written, and near misses."""

import pytest
import torch

from porter.passes.constants import simplify_constants
from porter.passes.fuse.fuse_rope import fuse_rope
from tests.passes.programs import ops, rewritten, x

LENGTH = 6
DYNAMIC = {"args_0": {0: "batch", 2: "length"}}


def _angles(length, dims, base=10000.0):
    freqs = base ** (-torch.arange(0, dims, 2, dtype=torch.float32) / dims)
    return torch.arange(length, dtype=torch.float32)[:, None] * freqs


def _half(a):
    first, second = a.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


def _every_two(a):
    return torch.stack([-a[..., 1::2], a[..., ::2]], dim=-1).flatten(-2)


def halves(a):
    angles = _angles(a.shape[2], a.shape[3], 500000.0)
    angles = torch.cat([angles, angles], dim=-1)
    return a * angles.cos() + _half(a) * angles.sin()


def interleaved(a):
    angles = _angles(a.shape[2], a.shape[3]).repeat_interleave(2, dim=-1)
    return a * angles.cos() + _every_two(a) * angles.sin()


def by_parts(a):
    angles = _angles(a.shape[2], a.shape[3])
    first, second = a.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def partial(a):
    turned, kept = a[..., :4], a[..., 4:]
    angles = _angles(a.shape[2], 4)
    angles = torch.cat([angles, angles], dim=-1)
    return torch.cat([turned * angles.cos() + _half(turned) * angles.sin(), kept], dim=-1)


def stretched(a):
    angles = _angles(a.shape[2], a.shape[3]) / 4
    angles = torch.cat([angles, angles], dim=-1)
    return a * angles.cos() + _half(a) * angles.sin()


def length_before_heads(a):
    b = a.transpose(1, 2)
    angles = _angles(b.shape[1], b.shape[3])
    angles = torch.cat([angles, angles], dim=-1)[:, None]
    return b * angles.cos() + _half(b) * angles.sin()


def positions_of_pictures(a):
    """Positions in time, of rows and of columns, which are the same in a text; each gives some of the frequencies."""
    place = torch.arange(a.shape[2])[None].expand(3, -1)
    angles = place[..., None].float() * 10000.0 ** (-torch.arange(0, 8, 2).float() / 8)

    def mixed(table):
        time = table[0]
        for grid in (1, 2):
            time[..., grid::3] = table[grid, ..., grid::3]
        return torch.cat([time, time], dim=-1)

    return a * mixed(angles.cos()) + _half(a) * mixed(angles.sin())


FUSED = {
    "halves": (halves, {"dims": 8, "traditional": False, "base": 500000.0, "scale": 1.0}),
    "interleaved": (interleaved, {"dims": 8, "traditional": True, "base": 10000.0, "scale": 1.0}),
    "by parts": (by_parts, {"dims": 8, "traditional": False, "base": 10000.0, "scale": 1.0}),
    "partial": (partial, {"dims": 4, "traditional": False, "base": 10000.0, "scale": 1.0}),
    "linear scaling": (
        stretched,
        {"dims": 8, "traditional": False, "base": 10000.0, "scale": 0.25},
    ),
    "length before heads": (
        length_before_heads,
        {"dims": 8, "traditional": False, "base": 10000.0, "scale": 1.0},
    ),
    "positions of pictures": (
        positions_of_pictures,
        {"dims": 8, "traditional": False, "base": 10000.0, "scale": 1.0},
    ),
}


@pytest.mark.parametrize(("forward", "attrs"), FUSED.values(), ids=FUSED)
@pytest.mark.parametrize("dynamic", [None, DYNAMIC], ids=["fixed", "dynamic"])
def test_found(forward, attrs, dynamic):
    program, counts = rewritten(
        forward, [x(2, 3, LENGTH, 8)], simplify_constants, fuse_rope, dynamic=dynamic
    )
    assert counts[1] == 1
    assert [n.attrs for n in program.nodes if n.op == "nn.RoPE"] == [attrs]
    assert not {"mx.cos", "mx.sin"} & set(ops(program))


def test_found_behind_a_shorter_axis():
    """Eight tokens become one before the rotation, as convolutions over sound do it."""

    def shortened(a):
        return halves(a[:, :, ::8])

    passes = simplify_constants, fuse_rope
    _, counts = rewritten(shortened, [x(2, 3, 24, 8)], *passes, dynamic=DYNAMIC)
    assert counts[1] == 1


def wrong_sign(a):
    angles = _angles(a.shape[2], a.shape[3])
    angles = torch.cat([angles, angles], dim=-1)
    return a * angles.cos() - _half(a) * angles.sin()


def uneven_positions(a):
    angles = _angles(a.shape[2], a.shape[3]) ** 2
    angles = torch.cat([angles, angles], dim=-1)
    return a * angles.cos() + _half(a) * angles.sin()


def other_frequencies(a):
    freqs = torch.tensor([1.0, 0.7, 0.2, 0.1])
    angles = torch.arange(a.shape[2])[:, None] * freqs
    angles = torch.cat([angles, angles], dim=-1)
    return a * angles.cos() + _half(a) * angles.sin()


def read_elsewhere(a):
    angles = _angles(a.shape[2], a.shape[3])
    angles = torch.cat([angles, angles], dim=-1)
    part = a * angles.cos()
    return part + _half(a) * angles.sin(), part


def of_a_mask(a):
    mask = a > 0
    angles = _angles(a.shape[2], a.shape[3])
    return mask.to(torch.float32) * torch.cat([angles, angles], dim=-1).cos()


@pytest.mark.parametrize(
    "forward", [wrong_sign, uneven_positions, other_frequencies, read_elsewhere, of_a_mask]
)
def test_near_misses(forward):
    _, counts = rewritten(forward, [x(2, 3, LENGTH, 8)], simplify_constants, fuse_rope)
    assert counts[1] == 0


class Weighted(torch.nn.Module):
    """A table of positions times a weight that is turned: there is no array to rotate."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(8, 1))

    def forward(self, a):
        return a + torch.exp(self.weight.T.reshape(1, 8) * _angles(a.shape[1], 16).cos())


def test_a_weight_in_the_place_of_the_features():
    program, _ = rewritten(Weighted(), [x(2, LENGTH, 8)], simplify_constants, fuse_rope)
    assert ops(program)["nn.RoPE"] == 0
