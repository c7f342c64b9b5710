"""Which reshapes only merge axes, or only drop some of size 1."""

from __future__ import annotations

import pytest
import sympy

from porter.passes.view_forms import flatten_axes, squeezed_axes
from tests.passes.programs import reshape

N, H = sympy.symbols("n h", positive=True, integer=True)


@pytest.mark.parametrize(
    ("source", "target", "axes"),
    [
        ((2, 3, 4), (6, 4), (0, 1)),
        ((2, 3, 4), (2, 12), (1, 2)),
        ((2, 3, 4), (24,), (0, 2)),
        ((N, 3, H, 4), (N, 3 * H, 4), (1, 2)),
        ((N, 3, 4), (N, 12), (1, 2)),
        ((2, 3, 4), (4, 6), None),
        ((6, 4), (2, 3, 4), None),
        ((N, H, 4), (2 * N * H, 2), None),
    ],
)
def test_a_flatten_is_told_from_other_reshapes(source, target, axes):
    assert flatten_axes(reshape(source, target)) == axes


@pytest.mark.parametrize(
    ("source", "target", "axes"),
    [
        ((2, 1, 4), (2, 4), (1,)),
        ((1, 2, 1), (2,), (0, 2)),
        ((1, N, 1), (N,), (0, 2)),
        ((1, 2, 1), (1, 2), ()),
        ((2, 3), (6,), ()),
        ((2, 1, 3), (3, 2), ()),
    ],
)
def test_a_squeeze_is_told_from_other_reshapes(source, target, axes):
    assert squeezed_axes(reshape(source, target)) == axes
