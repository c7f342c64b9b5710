"""Numbers as expressions over named ones, checked on every instance."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from porter.emit.names import words

Vector = dict[int, Any]  # instance -> value


@dataclass(frozen=True, slots=True)
class Code:
    """A value that is a piece of source: a function such as nn.relu."""

    text: str


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression over symbols; `text(rename)` writes it with the symbols' names as `rename` gives them."""

    symbols: tuple[str, ...]
    template: str

    def text(self, rename: Callable[[str], str]) -> str:
        return self.template.format(*map(rename, self.symbols))


def is_constant(vector: Vector) -> bool:
    values = list(vector.values())
    return all(type(value) is type(values[0]) and value == values[0] for value in values)


def literal(value: Any) -> str:
    """Python source of a plain value."""
    if isinstance(value, Code):
        return value.text
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, (list, tuple)):
        inner = ", ".join(map(literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return repr(value)


def _float(value: float) -> str:
    if value == float("inf"):
        return 'float("inf")'
    if value == float("-inf"):
        return '-float("inf")'
    if value != value:
        return 'float("nan")'
    return re.sub(r"e-0(\d)", r"e-\1", repr(value))


def find(
    vector: Vector,
    symbols: dict[str, Vector],
    hints: tuple[str, ...] = (),
    made: frozenset[str] = frozenset(),
    strict: bool = False,
) -> Expression | None:
    """The simplest expression over the symbols that gives the vector's value in every instance; None without one.

    Names that share words with the hints go first; those in `made` are no source's and enter no comparison.
    With `strict` only a name that shares words with the hints will do. A small constant has no expression but a hinted name.
    """
    values = list(vector.values())
    if not values or any(isinstance(value, (str, Code)) or value is None for value in values):
        return None
    if any(isinstance(value, bool) for value in values):
        return _flag(vector, symbols, hints, made)
    if isinstance(values[0], (tuple, list)):
        return next(
            (Expression((name,), "{}") for name in symbols if _equal(vector, symbols[name])), None
        )
    usable = {
        name: symbol
        for name, symbol in symbols.items()
        if all(
            isinstance(symbol.get(i), (int, float)) and not isinstance(symbol.get(i), bool)
            for i in vector
        )
    }
    if (
        isinstance(values[0], float)
        and "scale" in hints
        and (power := _power(vector, usable)) is not None
    ):
        return power
    for hint in hints:
        if hint in usable and _equal(vector, usable[hint]):
            return Expression((hint,), "{}")
    wanted = set().union(*(words(hint) for hint in hints)) if hints else set()
    constant = is_constant(vector)
    small = constant and isinstance(values[0], int) and abs(values[0]) <= 3
    exact = [name for name in usable if _equal(vector, usable[name])]
    telling = wanted - {"in", "out", "num", "size"}
    related = [name for name in exact if words(name) & telling]
    if related and not (small and max(len(words(n) & telling) for n in related) < 2):
        return Expression((max(related, key=lambda name: len(words(name) & wanted)),), "{}")
    if strict or small or (constant and isinstance(values[0], float)):
        return None
    if len(exact) == 1 or (exact and not constant):
        return Expression((exact[0],), "{}")
    if "padding" in hints:
        for name, symbol in usable.items():
            if "kernel" in name and _check(
                vector, lambda i, s=symbol: s[i] // 2 if isinstance(s[i], int) else None
            ):
                return Expression((name,), "{} // 2")
    if isinstance(values[0], float):
        return None
    return next(_composites(vector, usable, constant), None)


def _is_width(name: str) -> bool:
    """Whether a config's field speaks of the model's width, of which other sizes are multiples."""
    return bool(words(name) & {"dim", "hidden", "model"}) and not words(name) & {"num", "size"} - {
        "size"
    }


def _equal(vector: Vector, symbol: Vector) -> bool:
    return all(
        i in symbol and type(symbol[i]) is type(value) and symbol[i] == value
        for i, value in vector.items()
    )


def _check(vector: Vector, function: Callable[[int], Any]) -> bool:
    try:
        return all(function(i) == value for i, value in vector.items())
    except (ZeroDivisionError, OverflowError, TypeError):
        return False


def _composites(vector: Vector, symbols: dict[str, Vector], constant: bool) -> Iterator[Expression]:
    integers = {
        n: s for n, s in symbols.items() if all(isinstance(s[i], int) and s[i] > 3 for i in vector)
    }
    any_integers = {
        n: s for n, s in symbols.items() if all(isinstance(s[i], int) and s[i] > 0 for i in vector)
    }
    ratios = {
        n: s
        for n, s in symbols.items()
        if all(isinstance(s[i], float) and s[i] > 0 for i in vector) and "ratio" in n
    }
    for a, x in integers.items():
        for r, y in ratios.items():
            if (not constant or _is_width(a)) and _check(
                vector, lambda i, x=x, y=y: int(x[i] * y[i])
            ):
                yield Expression((a, r), "int({} * {})")
    for factor in (2, 3, 4):
        for a, x in integers.items():
            if (not constant or _is_width(a)) and _check(vector, lambda i, x=x, k=factor: k * x[i]):
                yield Expression((a,), f"{factor} * {{}}")
    for divisor in (2, 4):
        for a, x in integers.items():
            if not constant and _check(
                vector, lambda i, x=x, k=divisor: x[i] // k if x[i] % k == 0 else None
            ):
                yield Expression((a,), f"{{}} // {divisor}")
    for a, x in any_integers.items():
        if not constant and _check(vector, lambda i, x=x: x[i] ** 2 if x[i] > 1 else None):
            yield Expression((a,), "{} ** 2")
    for a, x in integers.items():
        for b, y in any_integers.items():
            if a == b or (constant and not (words(a) | words(b)) & {"heads", "patch"}):
                continue
            if _check(
                vector, lambda i, x=x, y=y: x[i] // y[i] if x[i] % y[i] == 0 and y[i] > 1 else None
            ):
                yield Expression((a, b), "{} // {}")
            if _check(vector, lambda i, x=x, y=y: (x[i] // y[i]) ** 2 if y[i] > 1 else None):
                yield Expression((a, b), "({} // {}) ** 2")
            if _check(vector, lambda i, x=x, y=y: (x[i] // y[i]) ** 2 + 1 if y[i] > 1 else None):
                yield Expression((a, b), "({} // {}) ** 2 + 1")
    if constant:
        return
    for factor in (5, 6, 8):
        for a, x in integers.items():
            if _check(vector, lambda i, x=x, k=factor: k * x[i]):
                yield Expression((a,), f"{factor} * {{}}")
    for a, x in any_integers.items():
        for b, y in any_integers.items():
            if a < b and _check(vector, lambda i, x=x, y=y: x[i] * y[i]):
                yield Expression((a, b), "{} * {}")
            if a < b and _check(vector, lambda i, x=x, y=y: x[i] + y[i]):
                yield Expression((a, b), "{} + {}")
            if a != b and _check(vector, lambda i, x=x, y=y: x[i] - y[i]):
                yield Expression((a, b), "{} - {}")
    for a, x in any_integers.items():
        for b, y in any_integers.items():
            for c, z in any_integers.items():
                if c != b and _check(vector, lambda i, x=x, y=y, z=z: x[i] + y[i] * z[i]):
                    yield Expression((a, b, c), "{} + {} * {}")


def _power(vector: Vector, symbols: dict[str, Vector]) -> Expression | None:
    """An attention scale: a head's size to the power of -1/2."""
    integers = {
        n: s for n, s in symbols.items() if all(isinstance(s[i], int) and s[i] > 1 for i in vector)
    }
    close = lambda got, want: isinstance(want, float) and abs(got - want) <= 1e-9 * abs(want)  # noqa: E731
    if any(not 0 < value < 1 for value in vector.values()):
        return None
    for a, x in sorted(integers.items(), key=lambda item: "dim" not in item[0]):
        if not words(a) & {"dim", "heads", "kv", "hidden", "channels"}:
            continue
        if all(close(x[i] ** -0.5, value) for i, value in vector.items()):
            return Expression((a,), "{} ** -0.5")
    for a, x in integers.items():
        for b, y in sorted(integers.items(), key=lambda item: "heads" not in item[0]):
            if (
                a != b
                and "heads" in words(b)
                and all(
                    x[i] % y[i] == 0 and close((x[i] // y[i]) ** -0.5, v) for i, v in vector.items()
                )
            ):
                return Expression((a, b), "({} // {}) ** -0.5")
    return None


def _flag(
    vector: Vector, symbols: dict[str, Vector], hints: tuple[str, ...], made: frozenset[str]
) -> Expression | None:
    """A yes or no that a symbol is, or that follows from comparing numbers."""
    for name in sorted(symbols, key=lambda n: n not in hints):
        if (name in hints or not is_constant(vector)) and _equal(vector, symbols[name]):
            return Expression((name,), "{}")
    if is_constant(vector):
        return None
    plain = {
        n: s
        for n, s in symbols.items()
        if n not in made and all(isinstance(s.get(i), (int, float)) for i in vector)
    }
    for name, s in plain.items():
        if all(type(s[i]) is int for i in vector):
            if _check(vector, lambda i, s=s: s[i] != 0):
                return Expression((name,), "{} > 0")
            if _check(vector, lambda i, s=s: s[i] != 1):
                return Expression((name,), "{} != 1")
    integers = {n: s for n, s in plain.items() if all(type(s[i]) is int for i in vector)}
    for a, x in integers.items():
        for b, y in integers.items():
            if a >= b:
                continue
            if _check(vector, lambda i, x=x, y=y: x[i] != y[i]):
                return Expression((a, b), "{} != {}")
            if _check(vector, lambda i, x=x, y=y: x[i] == y[i]):
                return Expression((a, b), "{} == {}")
    for a, x in integers.items():
        for b, y in integers.items():
            for factor in (2, 4):
                if a != b and _check(vector, lambda i, x=x, y=y, k=factor: x[i] != k * y[i]):
                    return Expression((a, b), f"{{}} != {factor} * {{}}")
            for c, z in integers.items():
                if (
                    len({a, b, c}) == 3
                    and a < b
                    and _check(vector, lambda i, x=x, y=y, z=z: x[i] == y[i] and z[i] == 1)
                ):
                    return Expression((a, b, c), "{} == {} and {} == 1")
    return None
