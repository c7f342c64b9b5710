"""What torch.export need not work out about sizes: half of its time where they come out of many strided layers.

Before each comparison of sizes torch bounds them, from the leaves up; a size a hundred layers down has those before it inside,
whose bounds are known. Where a size is divided by another, torch asks sympy for the simplest form of quotients that one
multiplication gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sympy
from torch.utils._sympy import interp, value_ranges


@contextmanager
def quick_sizes() -> Iterator[None]:
    """While it lasts, torch's arithmetic of sizes skips all that; undone at the end."""
    simplify, bound = sympy.simplify, interp.sympy_interp
    remembered = _Bounds(bound)
    try:
        sympy.simplify = lambda size, *args, **kwargs: (
            _divided(size) or simplify(size, *args, **kwargs)
        )
        interp.sympy_interp = value_ranges.sympy_interp = remembered  # type: ignore[assignment]
        yield
    finally:
        sympy.simplify = simplify
        interp.sympy_interp = value_ranges.sympy_interp = bound


def _divided(size: Any) -> Any:
    """A sum over a common factor, divided term by term; None where something is left of the factor."""
    if not isinstance(size, sympy.Mul):
        return None
    divided = sympy.expand_mul(size, deep=False)
    whole = all(sympy.denom(term) == 1 for term in sympy.Add.make_args(divided))
    return divided if whole else None


class _Bounds:
    """torch's bounds of an expression, with those of the parts of earlier ones where the symbols' own are the same.

    It calls itself for the parts, by its name in the module.
    """

    def __init__(self, work_out: Callable[..., Any]):
        self._work_out = work_out
        self._tables: dict[Any, dict[Any, Any]] = {}
        self._table: dict[Any, Any] | None = None  # while an expression is worked out

    def __call__(self, analysis: Any, env: Any, expr: Any, **options: Any) -> Any:
        if analysis is not value_ranges.SymPyValueRangeAnalysis or not expr.args:
            return self._work_out(analysis, env, expr, **options)
        if self._table is not None:
            return self._remembered(analysis, env, expr, options)
        self._table = self._tables.setdefault(frozenset(env.items()), {})
        try:
            return self._remembered(analysis, env, expr, options)
        finally:
            self._table = None

    def _remembered(self, analysis: Any, env: Any, expr: Any, options: dict[str, Any]) -> Any:
        assert self._table is not None
        if expr not in self._table:
            self._table[expr] = self._work_out(analysis, env, expr, **options)
        return self._table[expr]
