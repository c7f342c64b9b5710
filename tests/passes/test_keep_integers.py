"""keep_integers: positions that an author multiplies by 1.0 on their way to a table, and what must stay in floats."""

import pytest
import torch

from porter.passes.constants import simplify_constants
from porter.passes.keep_integers import keep_integers
from tests.passes.programs import ops, rewritten, x


def relative(a):
    places = torch.arange(a.shape[1])
    distances = places[:, None] * 1.0 - places[None] * 1.0 + (a.shape[1] - 1) * 1.0
    return a[:, distances.long() // 2]


@pytest.mark.parametrize("dynamic", [None, {"args_0": {1: "length"}}], ids=["fixed", "dynamic"])
def test_distances_of_positions(dynamic):
    program, counts = rewritten(
        relative, [x(2, 6, 4)], simplify_constants, keep_integers, dynamic=dynamic
    )
    assert counts[1] == 1
    assert "*" not in ops(program)


def halves(a):
    return a[:, (torch.arange(a.shape[1]) * 0.5).long()]


def roots(a):
    return a[:, (torch.arange(a.shape[1]) * 1.0).sqrt().long()]


def of_data(a):
    ids = (a[..., 0] > 0).long()
    return a[:, (ids[0] * 1.0 + 1.0).long()]


@pytest.mark.parametrize("forward", [halves, roots, of_data])
def test_near_misses(forward):
    _, counts = rewritten(forward, [x(2, 6, 4)], simplify_constants, keep_integers)
    assert counts[1] == 0
