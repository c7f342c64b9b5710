"""Sizes made of sizes evaluate to what sympy says."""

import pytest
import sympy
from torch.utils._sympy.functions import FloatTrueDiv, FloorDiv, Mod

from porter.emit.size_text import size_text

A, B, C = sympy.symbols("s1 s16 s2", integer=True, positive=True)
VALUES = {A: 12, B: 5, C: 7}


@pytest.mark.parametrize(
    "expression",
    [
        A * B, A - B * C, -A + 3, A * (B + C), (A + B) * (C - 1), FloorDiv(A + B, 4), sympy.floor((A - 1) / 2) + 1,
        sympy.ceiling(A / B), A / (B * C), FloatTrueDiv(A, B) * C, Mod(A, B) - C, A**2, 2 - FloorDiv(A, C) * 3,
        sympy.Max(A, B), A - (B - C), A * sympy.Rational(3, 2),
    ],
    ids=str,
)  # fmt: skip
def test_size_text(expression):
    text = size_text(expression, {A: "B", B: "L", C: "D"})
    found = eval(text.code, {"B": 12, "L": 5, "D": 7})
    assert found == pytest.approx(float(expression.subs(VALUES)))
    assert text.names <= {"B", "L", "D"}


def test_unknown_functions_have_no_text():
    assert size_text(sympy.log(A), {A: "B"}) is None
