"""Symbolic sizes in words, and ports whose sizes need them, at several sizes each."""

from __future__ import annotations

import pytest
import sympy
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils._sympy.functions import (
    FloatPow,
    FloatTrueDiv,
    FloorDiv,
    Max,
    Mod,
    OpaqueUnaryFn_sqrt,
    PythonMod,
    ToFloat,
)

from porter.emit.size_text import size_text
from tests.passes.programs import x
from tests.random_modules.parity import port_of

A, B, C = sympy.symbols("s1 s16 s2", integer=True, positive=True)
VALUES = {A: 12, B: 5, C: 7}
H, W = sympy.symbols("h w", positive=True, integer=True)
NAMES = {H: "H", W: "W"}


@pytest.mark.parametrize(
    ("size", "real", "code"),
    [
        (2 * H - 1, False, "2 * H - 1"),
        (1 - H, False, "1 - H"),
        (FloorDiv(H - 1, 2) + 1, False, "(H - 1) // 2 + 1"),
        (H * FloorDiv(W, 3), False, "H * (W // 3)"),
        (H / 2, False, "H // 2"),
        (H / W, True, "H / W"),
        ((H + 1) / 2, False, "(H + 1) // 2"),
        (3 * H / (2 * W), True, "3 * H / (2 * W)"),
        (PythonMod(H, 7), False, "H % 7"),
        (PythonMod(4 - PythonMod(H, 4), 4), False, "-H % 4"),
        (PythonMod(9 + W - 2 * PythonMod(H, 4), 4), False, "(W + 1 - 2 * H) % 4"),
        (PythonMod(4 - PythonMod(H, 3), 4), False, "-(H % 3) % 4"),
        (Max(H, W), False, "max(H, W)"),
        (H**2, False, "H**2"),
        (FloatPow(ToFloat(H), sympy.Float(0.5)), True, "H**0.5"),
        (1 / FloatPow(ToFloat(H), sympy.Float(0.5)), True, "H**(-0.5)"),
        (OpaqueUnaryFn_sqrt(H * W), True, "(H * W)**0.5"),
    ],
)
def test_expressions(size, real, code):
    text = size_text(size, NAMES, real)
    assert text is not None
    assert text.code == code
    values = {"H": 9, "W": 4}
    expected = size.subs({H: 9, W: 4})
    if real or expected.is_Integer:
        assert eval(text.code, values) == pytest.approx(float(expected))


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "corners"])
def test_resizing_to_another_feature_map(mode):
    """The sizes are those of two convolutions; the step between their cells is a real number."""

    class Fusion(nn.Module):
        def __init__(self):
            super().__init__()
            self.fine, self.coarse = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(3, 4, 3, 5, 1)
            self.join = nn.Conv2d(8, 4, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            fine, coarse = self.fine(image), self.coarse(image)
            options = (
                {"mode": "bilinear", "align_corners": True} if mode == "corners" else {"mode": mode}
            )
            coarse = F.interpolate(coarse, size=fine.shape[-2:], **options)
            return self.join(torch.cat([fine, coarse], 1))

    ported = port_of(Fusion, (x(2, 3, 24, 27),), {"image": {0: "batch", 2: "height", 3: "width"}})
    assert not [note for note in ported.port.notes if "as traced" in note]
    for size in ((2, 3, 24, 27), (1, 3, 31, 44)):
        ported.check(x(*size))


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
    text = size_text(expression, {A: "B", B: "L", C: "D"}, real=True)
    found = eval(text.code, {"B": 12, "L": 5, "D": 7})
    assert found == pytest.approx(float(expression.subs(VALUES)))
    assert text.names <= {"B", "L", "D"}


def test_unknown_functions_have_no_text():
    assert size_text(sympy.log(A), {A: "B"}) is None


def test_the_file_s_head_says_sizes_as_python_does():
    conv = nn.Conv2d(3, 4, 3, stride=2)
    head = port_of(lambda: nn.Sequential(conv, nn.MaxPool2d(2)), [x(2, 3, 17, 21)]).port.model_py
    output = next(line for line in head.splitlines() if line.startswith("Output"))
    assert "(batch, ((height - 3) // 2 - 1) // 2 + 1, ((width - 3) // 2 - 1) // 2 + 1, 4)" in output
