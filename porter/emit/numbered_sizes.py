"""Sizes made of an array's axis and a number that a setting gives: `min(self.top, N)`, `self.bins / (H - 1)`."""

from __future__ import annotations

from sympy import Expr, sympify

from porter.emit.arguments import Arguments
from porter.emit.literals import Vector
from porter.emit.measured import Measured
from porter.emit.syntax import Text, call, infix
from porter.ir import Value


def with_number(
    measured: Measured, arguments: Arguments, vector: Vector, order: list[Value], real: bool
) -> Text | None:
    """The size, where no axis has it in every instance; None where it is no such expression."""
    return _bounded(measured, arguments, vector, order, real) or _multiplied(
        measured, arguments, vector, order, real
    )


def _bounded(
    measured: Measured, arguments: Arguments, vector: Vector, order: list[Value], real: bool
) -> Text | None:
    """`min(self.topk_candidates, N)`: a size up to a number."""
    sizes = list(vector.values())
    kinds = {type(size).__name__ for size in sizes}
    split = {
        i: ([a for a in size.args if a.is_Integer], [a for a in size.args if not a.is_Integer])
        for i, size in vector.items()
        if isinstance(size, Expr)
    }
    if kinds - {"Min", "Max"} or len(kinds) != 1 or len(split) != len(vector):
        return None
    if any(len(numbers) != 1 or len(rest) != 1 for numbers, rest in split.values()):
        return None
    rests = {i: parts[1][0] for i, parts in split.items()}
    rest = measured.text(rests, order, real) or _multiplied(measured, arguments, rests, order, real)
    numbers = {i: int(parts[0][0]) for i, parts in split.items()}
    if rest is None:
        return None
    number = Text(arguments.resolve(numbers, "size", in_call=True))
    return call(kinds.pop().lower(), [number, rest])


def _multiplied(
    measured: Measured, arguments: Arguments, vector: Vector, order: list[Value], real: bool
) -> Text | None:
    """A number times a size, or over it where `real` says that it is no whole number."""
    numbers, rests, divides = {}, {}, set()
    for i, size in vector.items():
        top, bottom = sympify(size).as_numer_denom()
        number, rest = top.as_coeff_Mul()
        if not number.is_Integer or (bottom != 1 and not (real and rest == 1)):
            return None
        divides.add(bottom != 1)
        numbers[i], rests[i] = int(number), rest if bottom == 1 else bottom
    if (
        len(divides) != 1
        or len(set(rests.values())) != 1
        or not next(iter(rests.values())).free_symbols
    ):
        return None
    text = measured.text(rests, order)
    if text is None:
        return None
    number = Text(arguments.resolve(numbers, "size", in_call=True))
    return infix("/" if divides.pop() else "*", number, text)
