"""Quick sizes are what torch works out."""

from __future__ import annotations

from typing import Any

import pytest
import sympy
import torch
from torch import nn
from torch.utils._sympy import interp, value_ranges
from torch.utils._sympy.functions import FloorDiv

from porter.frontends.quick_sizes import _divided, quick_sizes

H, W = sympy.symbols("h w", integer=True, positive=True)


@pytest.mark.parametrize(
    ("sum_", "factor", "quotient"),
    [
        (4 * H + 8 * W, sympy.Integer(4), H + 2 * W),
        (H * W + 3 * H, H, W + 3),
        (6 * H * FloorDiv(W, 2) + 2 * H, 2 * H, 3 * FloorDiv(W, 2) + 1),
    ],
)
def test_a_sum_is_divided_term_by_term(sum_: Any, factor: Any, quotient: Any) -> None:
    divided = _divided(sum_ / factor)
    assert divided is None or divided == quotient
    assert sympy.simplify(sum_ / factor - quotient) == 0
    with quick_sizes():
        assert sympy.expand(sympy.simplify(sum_ / factor)) == sympy.expand(quotient)


def test_what_is_left_of_a_factor_is_torchs_to_simplify() -> None:
    assert _divided((H * W + W) / (H + 1)) is None
    with quick_sizes():
        assert sympy.simplify((H * W + W) / (H + 1)) == W


def test_bounds_follow_the_bounds_of_the_symbols() -> None:
    inner = 1 + FloorDiv(H - 1, 2)
    outer = inner + FloorDiv(inner, 2)
    with quick_sizes():
        for low, high in ((2, 9), (4, 64), (2, 9)):
            ranges = {H: value_ranges.ValueRanges(low, high)}
            found = value_ranges.bound_sympy(outer, ranges)
            at = [int(outer.subs(H, n)) for n in (low, high)]
            assert [int(found.lower), int(found.upper)] == at


def test_it_is_undone_at_the_end() -> None:
    before = sympy.simplify, interp.sympy_interp, value_ranges.sympy_interp
    with pytest.raises(ValueError, match="the author"), quick_sizes():
        raise ValueError("the author's")
    assert (sympy.simplify, interp.sympy_interp, value_ranges.sympy_interp) == before


def test_an_export_has_the_same_sizes() -> None:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, stride=2, padding=1) for _ in range(4))

        def forward(self, x):
            parts = []
            for conv in self.convs:
                x = conv(x)
                parts.append(x.flatten(2))
            b, c, h, w = x.shape
            return torch.cat(parts, 2), x.reshape(b, c, h * w // 1)

    def sizes() -> list[Any]:
        dims = {2: torch.export.Dim("h", min=32), 3: torch.export.Dim("w", min=32)}
        exported = torch.export.export(
            Net().eval(), (torch.randn(2, 3, 64, 96),), dynamic_shapes={"x": dims}, strict=False
        )
        output = next(n for n in exported.graph.nodes if n.op == "output")
        shapes = [array.meta["val"].shape for array in output.args[0]]
        return [str(getattr(size, "node", size)) for shape in shapes for size in shape]

    plain = sizes()
    with quick_sizes():
        assert sizes() == plain
