"""fuse_rotations: the ways in which features are swapped in pairs, and near misses."""

import pytest
import torch

from porter.passes.fuse.fuse_rotations import fuse_rotations
from tests.passes.programs import ops, rewritten, x

GIVEN = [x(2, 3, 6, 8), x(6, 8), x(6, 8)]
DYNAMIC = {"args_0": {0: "batch", 2: "length"}, "args_1": {0: "length"}, "args_2": {0: "length"}}


def split(a):
    first, second = a.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


def cut(a):
    return torch.cat([-a[..., 4:], a[..., :4]], dim=-1)


def neighbours(a):
    return torch.stack([-a[..., 1::2], a[..., ::2]], dim=-1).flatten(-2)


@pytest.mark.parametrize(
    ("turn", "kwargs"), [(split, {}), (cut, {}), (neighbours, {"traditional": True})]
)
@pytest.mark.parametrize("dynamic", [None, DYNAMIC], ids=["fixed", "dynamic"])
def test_found(turn, kwargs, dynamic):
    program, counts = rewritten(
        lambda a, cos, sin: sin * turn(a) + a * cos, GIVEN, fuse_rotations, dynamic=dynamic
    )
    assert counts == [1]
    assert ops(program) == {"fn.rotate": 1}
    assert program.nodes[0].kwargs == kwargs


def other_way(a, cos, sin):
    return a * cos + torch.cat([a[..., 4:], -a[..., :4]], dim=-1) * sin


def of_another_array(a, cos, sin):
    return a.exp() * cos + split(a) * sin


def uneven_parts(a, cos, sin):
    return a * cos + torch.cat([-a[..., 3:], a[..., :3]], dim=-1) * sin


@pytest.mark.parametrize("forward", [other_way, of_another_array, uneven_parts])
def test_near_misses(forward):
    _, counts = rewritten(forward, GIVEN, fuse_rotations)
    assert counts == [0]


class Shortened(torch.nn.Module):
    """Frames of a sound, of which a few samples make none."""

    def __init__(self):
        super().__init__()
        self.frames = torch.nn.Conv1d(1, 8, 16, stride=8)
        self.cos, self.sin = (torch.nn.Parameter(torch.rand(8)) for _ in range(2))

    def forward(self, a):
        a = self.frames(a[:, None]).transpose(1, 2)
        return a * self.cos + split(a) * self.sin


def test_positions_that_a_convolution_leaves():
    dynamic = {"a": {0: "batch", 1: "length"}}
    program, counts = rewritten(Shortened(), [x(2, 80)], fuse_rotations, dynamic=dynamic)
    assert counts == [1]
    assert ops(program)["fn.rotate"] == 1


def test_rows_that_depend_on_the_data_are_left():
    """Of as many rows as are not zero no length tells."""

    def chosen(a, cos, sin):
        rows = a[a[:, 0] > 0]
        return rows * cos + split(rows) * sin

    _, counts = rewritten(chosen, [x(6, 8), x(8), x(8)], fuse_rotations)
    assert counts == [0]
