"""Symbolic sizes read off the axes of arrays in reach: `H // 2`, `W - 1`."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import sympy
from sympy import Expr

from porter.emit.literals import Vector
from porter.emit.size_text import size_text
from porter.emit.sizes import Dims, is_symbolic
from porter.emit.syntax import Text, infix, plain
from porter.ir import Value
from porter.ir.builder import simplify

Axis = tuple[Value, int]
_PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}


class Measured:
    """Finds axes for sizes; `taken` are the names that no dim may have.

    In each method `vector` is the size in each instance of the class, `order` the arrays that may be measured, the
    preferred first, and `real` says that the quotient of two sizes is meant as it is, not a whole number.
    """

    def __init__(self, dims: Dims, taken: Callable[[], set[str]]):
        self.dims = dims
        self.taken = taken

    def text(self, vector: Vector, order: list[Value], real: bool = False) -> Text | None:
        """The expression, or None where no array has what it needs."""
        found = self.dims.find(vector, order)
        if found is not None:
            return self._name(found)
        if not is_symbolic(vector):
            return None
        axes = list(self._axes(vector, order))
        return (
            self._multiple(vector, axes, "/" if real else "//")
            or self._quotient(vector, axes, real)
            or self._shifted(vector, axes)
            or self._composed(vector, axes, real)
            or self._pair(vector, axes)
        )

    def _name(self, axis: Axis) -> Text:
        name = self.dims.name(*axis, self.taken())
        return Text(name, names={name})

    def _axes(self, vector: Vector, order: list[Value]) -> Iterator[Axis]:
        """An axis for each size that varies, known in every instance that needs it."""
        seen: set[tuple[object, ...]] = set()
        for value in dict.fromkeys(order):
            for axis in range(value.rank):
                have = self.dims.vector(value, axis)
                key = tuple(have.get(i) for i in vector)
                if None not in key and key not in seen:
                    seen.add(key)
                    yield value, axis

    def _multiple(self, vector: Vector, axes: list[Axis], division: str) -> Text | None:
        """`2 * H` or `H // 2`."""
        first = min(vector)
        for axis in axes:
            have = self.dims.vector(*axis)
            if not isinstance(have[first], Expr):
                continue
            for over, under in ((vector, have), (have, vector)):
                ratio = simplify(over[first] / under[first])
                if isinstance(ratio, int) and all(
                    simplify(over[i] - ratio * under[i]) == 0 for i in vector
                ):
                    name, number = self._name(axis), plain(ratio)
                    return (
                        infix("*", number, name)
                        if over is vector
                        else infix(division, name, number)
                    )
        return None

    def _quotient(self, vector: Vector, axes: list[Axis], real: bool) -> Text | None:
        """One array's size over another's."""
        for a in axes:
            whole = self.dims.vector(*a)
            for b in axes:
                part = self.dims.vector(*b)
                if a != b and all(
                    part[i] != 1 and simplify(whole[i] - vector[i] * part[i]) == 0 for i in vector
                ):
                    return infix("/" if real else "//", self._name(a), self._name(b))
        return None

    def _shifted(self, vector: Vector, axes: list[Axis]) -> Text | None:
        """`W - 1`."""
        for axis in axes:
            have = self.dims.vector(*axis)
            rest = {simplify(vector[i] - have[i]) for i in vector}
            number = rest.pop()
            if not rest and isinstance(number, int):
                return infix("+" if number > 0 else "-", self._name(axis), plain(abs(number)))
        return None

    def _composed(self, vector: Vector, axes: list[Axis], real: bool) -> Text | None:
        """The expression itself, parts of it and its symbols read off axes."""
        stands = {axis: sympy.Dummy(integer=True, positive=True) for axis in axes}
        found: set[Expr] = set()
        for i, size in vector.items():
            have = [(self.dims.vector(*axis)[i], stand) for axis, stand in stands.items()]
            known = [(part, stand) for part, stand in have if isinstance(part, Expr)]
            known.sort(key=lambda pair: -pair[0].count_ops())
            found.add(sympy.sympify(size).subs(known))
        expression = found.pop()
        if found or not expression.free_symbols <= set(stands.values()):
            return None
        used = {
            stand: self._name(axis).code
            for axis, stand in stands.items()
            if stand in expression.free_symbols
        }
        return size_text(expression, used, real)

    def _pair(self, vector: Vector, axes: list[Axis]) -> Text | None:
        """Two arrays' sizes added, subtracted or multiplied."""
        for a, b in itertools.product(axes, axes):
            x, y = self.dims.vector(*a), self.dims.vector(*b)
            for sign, combine in _PAIRS.items():
                if all(simplify(vector[i] - combine(x[i], y[i])) == 0 for i in vector):
                    return infix(sign, self._name(a), self._name(b))
        return None
