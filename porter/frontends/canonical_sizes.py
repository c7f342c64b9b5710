"""One expression for sizes that are the same number in every case.

Two paths through a model often compute one length in two ways, `(a + 1) // 2` and `(a - 1) // 2 + 1`; torch keeps both.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

import sympy

#: Sizes at which expressions are compared: some with many divisors, some with none, all large.
_POINTS = (40_320, 100_003, 65_536, 49_999, 75_600, 91_193)
#: What agrees at those is compared at as many sizes in a row: quotients differ at some remainders alone.
_ROW = 128
#: torch's own functions of whole numbers.
_WHOLE: dict[str, Any] = {
    "FloorDiv": operator.floordiv, "CleanDiv": operator.floordiv, "Mod": operator.mod, "PythonMod": operator.mod,
    "PowByNatural": operator.pow, "Max": max, "Min": min, "IntTrueDiv": operator.truediv, "FloatTrueDiv": operator.truediv,
    "ToFloat": float, "TruncToInt": math.trunc, "FloorToInt": math.floor, "CeilToInt": math.ceil, "Identity": lambda x: x,
}  # fmt: skip
#: Tokens that a text has at least, at which they are compared too.
_FEW = (1, 2, 3)


class CanonicalSizes:
    """Gives every symbolic size the first expression seen that equals it, or the int that it always is.

    `dims` has each symbol's name and its size when traced, `most` the largest sizes that an export holds for.
    """

    def __init__(self, dims: Mapping[sympy.Symbol, tuple[str, int]]) -> None:
        self._dims = dims
        self.most: dict[sympy.Symbol, int] = {}
        self._known: dict[sympy.Expr, Any] = {}
        self._by_values: dict[tuple[Any, ...], list[Any]] = {}
        self._learned: set[tuple[Any, ...]] = set()
        self._points: dict[sympy.Symbol, int] = {}

    def learn(self, size: sympy.Expr, number: int) -> None:
        """Takes it from outside that `size` is always `number`: an export may bound the sizes that it holds for."""
        values = self._values(size)
        if values is not None:
            self._by_values[values] = [number]
            self._learned.add(values)

    def __call__(self, size: sympy.Expr) -> Any:
        if size not in self._known:
            self._known[size] = self._canonical(size)
        return self._known[size]

    def _canonical(self, size: sympy.Expr) -> Any:
        size = size.replace(lambda part: type(part).__name__ == "Min", self._least)
        if size.is_Integer:
            return int(size)
        values = self._values(size)
        if values is None:
            return size
        if values in self._learned:
            number = self._by_values[values][0]
            return number if self._equal_when_traced(size, number) else size
        known = self._by_values.setdefault(values, [])
        number = values[0]
        constant = all(v == number for v in values) and number.is_Integer
        line = int(number) if constant else self._linear(size, values)
        for found in ([] if line is None else [line]) + known:
            if self._in_a_row(size, found) and self._equal_when_traced(size, found):
                break
        else:
            found = size
        if found not in known:
            known.append(found)
        return found

    def _linear(self, size: sympy.Expr, values: tuple[Any, ...]) -> sympy.Expr | None:
        """`a * s + b` for what is it at every point: an author's ceil((s - 1) / 1 + 1) is s."""
        if len(size.free_symbols) != 1 or not all(value == int(value) for value in values):
            return None
        (symbol,) = size.free_symbols
        points = self._values(symbol)
        assert points is not None
        slope, rest = divmod(values[1] - values[0], points[1] - points[0])
        offset = values[0] - slope * points[0]
        same = all(v == slope * x + offset for v, x in zip(values, points, strict=True))
        return sympy.Integer(slope) * symbol + sympy.Integer(offset) if rest == 0 and same else None

    def _least(self, part: sympy.Expr) -> sympy.Expr:
        """`Min(256, s)` is s where no text is longer."""
        symbols = [item for item in part.args if item in self.most]
        others = [item for item in part.args if item not in symbols]
        reached = all(n.is_Integer and n >= self.most[s] for n in others for s in symbols)
        return symbols[0] if len(symbols) == 1 and reached else part

    def _in_a_row(self, size: sympy.Expr, found: Any) -> bool:
        """Whether both are the same at many neighbouring sizes."""
        symbols = sorted(size.free_symbols | sympy.sympify(found).free_symbols, key=str)
        both = sympy.lambdify(symbols, [size, found], modules=[_WHOLE, "math"])
        starts = [_POINTS[0] * (self._points[symbol] + 1) for symbol in symbols]
        rows = [[start + step for start in starts] for step in range(_ROW)]
        for place, start in enumerate(starts):
            rows += [[*starts[:place], start + step, *starts[place + 1 :]] for step in range(_ROW)]
        try:
            return all(a == b for a, b in (both(*row) for row in rows))
        except (NameError, TypeError):  # a function that is none of these
            return False

    def _equal_when_traced(self, size: sympy.Expr, found: Any) -> bool:
        """What is 0 at large sizes alone, `Max(0, 96 - s)` or `batch // (H // 24)`, is not; a text may have one token, too."""
        if found is size:
            return True
        traced = {symbol: hint for symbol, (_, hint) in self._dims.items()}
        cases = [traced]
        bounded = any(type(p).__name__ in ("Max", "Min") for p in sympy.preorder_traversal(size))
        if bounded:
            lengths = [symbol for symbol, (name, _) in self._dims.items() if name == "length"]
            cases += [traced | dict.fromkeys(lengths, few) for few in _FEW]
        both = [(size.subs(case), sympy.sympify(found).subs(case)) for case in cases]
        # a bound on a size that the data give has no number here: it is kept
        return all(bool(a == b) for a, b in both if bounded or (a.is_number and b.is_number))

    def _values(self, size: sympy.Expr) -> tuple[Any, ...] | None:
        """The size at each point; None where it has no value there."""
        symbols = size.free_symbols
        for symbol in sorted(symbols, key=str):
            self._points.setdefault(symbol, len(self._points))
        values = []
        for place, point in enumerate(_POINTS):
            # No two symbols have one value: a multiple of the point, and a small step off it at the odd places.
            table = {
                symbol: point * (index + 1) + (index * 7 if place % 2 else 0)
                for symbol, index in self._points.items()
                if symbol in symbols
            }
            try:
                value = size.subs(table)
            except (ZeroDivisionError, ValueError, TypeError):
                return None
            if not value.is_number:
                return None
            values.append(value)
        return tuple(values)
