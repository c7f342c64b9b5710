"""join_slices: slices of slices are one, and an array that is cut and put together again is itself."""

import pytest
import torch
from torch import nn

from porter.passes.join_slices import join_slices
from tests.passes.programs import ops, rewritten, x
from tests.random_modules.parity import check_source, port_of


@pytest.mark.parametrize(
    ("function", "left"),
    [
        (lambda a: a[:, :3][:, 0], 1),
        (lambda a: a[:, 1:][:, 2], 1),
        (lambda a: a[:, 1:][:, 1:3, 2:], 1),
        (lambda a: a[..., 2:][:, 1:][:, :2], 1),
        (lambda a: a[:, 0][:, None], 1),
        (lambda a: a[:, 0][:, :, None], 2),  # another axis
        (lambda a: a[:, 1:][:, -1], 2),  # counted from the other end
        (lambda a: a[:, :3][:, 1:], 1),
    ],
)
def test_slices_of_slices(function, left):
    program, _ = rewritten(function, [x(2, 5, 6)], join_slices)
    assert sum(ops(program)[op] for op in ("[]", "mx.expand_dims")) == left


def test_a_slice_that_is_read_twice_stays():
    def forward(a):
        some = a[:, 1:4]
        return some[:, 0] * some.sum(1)

    program, _ = rewritten(forward, [x(2, 5, 6)], join_slices)
    assert ops(program)["[]"] == 2


@pytest.mark.parametrize(("start", "left"), [(1, 0), (2, 1)])
def test_all_parts_put_together(start, left):
    def forward(a):
        return torch.cat([a[:, :1], a[:, start:]], 1) * 2

    program, _ = rewritten(forward, [x(2, 5, 6)], join_slices)
    assert ops(program)["mx.concatenate"] == left


class Projection(nn.Module):
    """Coordinates that are divided in place, as monodepth2 does."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(3))

    def forward(self, a):
        a = a * self.scale
        a[..., 0] /= 4
        a[..., 1] /= 3
        return (a - 0.5) * 2


def test_what_is_written_in_place_is_written_once():
    ported = port_of(Projection, [x(2, 5, 3)])
    ported.check(x(3, 5, 3))
    check_source(ported.port.model_py)
    assert ported.port.model_py.count("mx.concatenate(") == 1
