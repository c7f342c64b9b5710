"""Symbolic sizes read off the axes of arrays in reach: `H // 2`, `W - 1`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import sympy
from sympy import Expr

from porter.emit.literals import Vector, is_constant
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
#: What b is where `a SIGN b` is a size: by the size and a.
_OTHER: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.sub,
    "-": lambda size, a: a - size,
    "*": lambda size, a: size / a if a else None,
    "/": lambda size, a: a / size if size else None,
}


class Measured:
    """Finds axes for sizes; `taken` are the names that no dim may have.

    In each method `vector` is the size in each instance of the class, `order` the arrays that may be measured, the
    preferred first, and `real` says that the quotient of two sizes is meant as it is, not a whole number.
    """

    def __init__(self, dims: Dims, taken: Callable[[], set[str]]):
        self.dims = dims
        self.taken = taken
        self._primes: dict[Any, int] = {}
        self._numbers: dict[Any, Any] = {}

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

    def axis(self, value: Value, axis: int) -> Text:
        """The size of one axis of an array."""
        return self._name((value, axis))

    def _name(self, axis: Axis) -> Text:
        name = self.dims.name(*axis, self.taken())
        return Text(name, names={name})

    def _axes(self, vector: Vector, order: list[Value]) -> Iterator[Axis]:
        """An axis for each size that varies, known in every instance that needs it."""
        seen: set[tuple[object, ...]] = set()
        for value in dict.fromkeys(order):
            for axis in range(value.rank):
                have = self.dims.vector(value, axis)
                sizes = tuple(have.get(i) for i in vector)
                key = (sizes, is_symbolic(have) or _made_of_parameters(value))
                if None not in sizes and key not in seen:
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
        near = self._at_points(vector, axes)
        for a in axes:
            whole = self.dims.vector(*a)
            if is_constant(whole) and not is_symbolic(whole) and not _made_of_parameters(a[0]):
                continue  # the number itself says more than an axis that happens to have this size
            for b in near(a, ("/",)):
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
            symbols = sympy.sympify(size).free_symbols
            known = [
                (part, stand)
                for part, stand in have
                if isinstance(part, Expr) and part.free_symbols <= symbols
            ]
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
        near = self._at_points(vector, axes)
        for a in axes:
            for b in near(a, tuple(_PAIRS)):
                x, y = self.dims.vector(*a), self.dims.vector(*b)
                for sign, combine in _PAIRS.items():
                    if all(simplify(vector[i] - combine(x[i], y[i])) == 0 for i in vector):
                        return infix(sign, self._name(a), self._name(b))
        return None

    def _at_points(
        self, vector: Vector, axes: list[Axis]
    ) -> Callable[[Axis, tuple[str, ...]], list[Axis]]:
        """The axes b for which `a SIGN b` may be the size, as it is with numbers in the place of the symbols.

        There are many pairs in a long forward, and to compare expressions is slow.
        """
        first = min(vector)
        wanted = self._number(vector[first])
        numbers = {axis: self._number(self.dims.vector(*axis)[first]) for axis in axes}
        places: dict[Any, list[int]] = {}
        for place, axis in enumerate(axes):
            places.setdefault(numbers[axis], []).append(place)

        def near(a: Axis, signs: tuple[str, ...]) -> list[Axis]:
            x = numbers[a]
            if x is None or wanted is None:
                return axes
            found = set(places.get(None, ()))
            for sign in signs:
                found.update(places.get(_OTHER[sign](wanted, x), ()))
            return [axes[place] for place in sorted(found)]

        return near

    def _number(self, size: Any) -> Any:
        """The size with a number for each symbol, or None where it has no value so."""
        if isinstance(size, int):
            return sympy.Integer(size)
        if size not in self._numbers:
            for symbol in sorted(size.free_symbols, key=str):
                self._primes.setdefault(symbol, sympy.prime(5000 + 7 * len(self._primes)))
            value = size.subs({s: self._primes[s] for s in size.free_symbols})
            self._numbers[size] = value if value.is_Rational else None
        return self._numbers[size]


def _made_of_parameters(value: Value) -> bool:
    """Whether no input's data is in an array: a table of positions, also one that was resized."""
    if value.is_parameter or value.data is not None:
        return True
    return value.node is not None and all(map(_made_of_parameters, value.node.inputs()))
