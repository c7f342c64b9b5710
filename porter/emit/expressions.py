"""Numbers as expressions over named ones, checked on every instance."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement, product
from math import prod
from typing import Any

from porter.emit.literals import Code, Vector, is_constant
from porter.emit.names import words
from porter.emit.patterns import (
    COMPOSITES,
    CONDITIONS,
    FAR_CONDITIONS,
    MULTIPLES,
    PADDINGS,
    QUOTIENTS,
    SCALES,
    Pattern,
    counts_heads,
    is_place,
    is_told,
)


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression over symbols; `text(rename)` writes it with the symbols' names as `rename` gives them."""

    symbols: tuple[str, ...]
    template: str

    def text(self, rename: Callable[[str], str]) -> str:
        return self.template.format(*map(rename, self.symbols))


def find(
    vector: Vector,
    symbols: dict[str, Vector],
    hints: tuple[str, ...] = (),
    made: frozenset[str] = frozenset(),
    strict: bool = False,
    partial: frozenset[str] = frozenset(),
    unproven: frozenset[str] = frozenset(),
) -> Expression | None:
    """The simplest expression over the symbols that gives the vector's value in every instance; None without one.

    Names that share words with the hints go first; those in `made` are no source's and enter no comparison.
    With `strict` only a name that shares words with the hints will do. Those in `partial`, which some instance has no value
    for, stand alone or not at all. Those that are `unproven`, which nothing has changed yet, want a name that shares words too.
    A small constant has no expression but a hinted name.
    """
    values = list(vector.values())
    if not values or any(isinstance(value, (str, Code)) or value is None for value in values):
        return None
    if any(isinstance(value, bool) for value in values):
        return _flag(vector, symbols, hints, made)
    if isinstance(values[0], (tuple, list)):
        return next((_named(name) for name in symbols if _equal(vector, symbols[name])), None)
    if not all(isinstance(value, (int, float)) for value in values):
        return None
    numbers = {name: symbol for name, symbol in symbols.items() if _is_number(vector, symbol)}
    if _OF_WINDOWS & {*hints}:
        numbers = {name: s for name, s in numbers.items() if not words(name) & _OF_FEATURES}
    whole = {name: symbol for name, symbol in numbers.items() if name not in partial}
    if isinstance(values[0], float) and "scale" in hints:
        power = _first(vector, whole, SCALES, is_constant(vector))
        if power is not None:
            return power
    named = _exact(vector, numbers, hints, strict, unproven)
    constant = is_constant(vector)
    if named is not None or strict or (constant and isinstance(values[0], float)):
        return named
    if constant:
        if abs(values[0]) <= 3:
            return None
        return _first(vector, whole, PADDINGS if "padding" in hints else COMPOSITES, constant)
    whole = {name: symbol for name, symbol in whole.items() if not is_place(name)}
    parts = elements(vector, symbols, from_end="depth" not in hints)
    element = next((_named(name) for name in parts if _equal(vector, parts[name])), None)
    if isinstance(values[0], float):
        return element
    return (
        element
        or _first(vector, whole, PADDINGS if "padding" in hints else COMPOSITES, constant)
        or _multiple(vector, whole)
        or _first(vector, parts, MULTIPLES, constant)
        or _multiple(vector, parts, 1)
        or _first(vector, parts | whole, QUOTIENTS, constant)
    )


def elements(
    vector: Vector, symbols: dict[str, Vector], from_end: bool = False
) -> dict[str, Vector]:
    """`dims[0]`, `dims[1]`, ... of the vector's type, of the symbols that are tuples of one length wherever it is known.

    The last is `dims[-1]` with `from_end`.
    """
    found: dict[str, Vector] = {}
    for name, symbol in symbols.items():
        rows = {i: symbol.get(i) for i in vector}
        lengths = {len(row) if isinstance(row, (tuple, list)) else 0 for row in rows.values()}
        if len(lengths) != 1 or not 0 < max(lengths) <= _LONGEST:
            continue
        last = max(lengths) - 1
        for place in range(last + 1):
            column = {i: row[place] for i, row in rows.items() if row is not None}
            if all(type(column[i]) is type(value) for i, value in vector.items()):
                found[f"{name}[{-1 if from_end and place == last > 0 else place}]"] = column
    return found


#: A longer tuple is a table and no list of sizes.
_LONGEST = 8

#: What a number of places to move is called: a size has the same value by chance.
_MOVES = {"pad", "shift"}

#: What says how windows lie in a map, and words of sizes that have nothing to do with that.
_OF_WINDOWS = {"stride", "padding", "dilation", "kernel_size", "output_padding"}
_OF_FEATURES = {"channels", "dim", "hidden", "heads", "vocab", "classes"}

#: Among more choices of names than this, a form with three of them is found by chance, and slowly.
_MOST = 4096


def _named(name: str) -> Expression:
    return Expression((name,), "{}")


def _exact(
    vector: Vector,
    numbers: dict[str, Vector],
    hints: tuple[str, ...],
    strict: bool,
    unproven: frozenset[str],
) -> Expression | None:
    """A symbol with the vector's own values: a hint, one whose name is related, or the only one."""
    for hint in hints:
        if hint in numbers and _equal(vector, numbers[hint]):
            return _named(hint)
    exact = [name for name in numbers if _equal(vector, numbers[name])]
    wanted = set().union(*map(words, hints)) if hints else set()
    telling = wanted - {"in", "out", "num", "size"}
    of_size = "dim" in wanted and "num" not in wanted  # a number of heads is no size of one
    related = [
        name for name in exact if words(name) & telling and not (of_size and counts_heads(name))
    ]
    value = next(iter(vector.values()))
    constant = is_constant(vector)
    small = constant and isinstance(value, int) and abs(value) <= 3
    if related and not (small and max(len(words(name) & telling) for name in related) < 2):
        return _named(max(related, key=lambda name: len(words(name) & wanted)))
    if strict or small or (constant and isinstance(value, float)):
        return None
    if constant and wanted & _MOVES:
        return None
    exact = [name for name in exact if name not in unproven]
    return _named(exact[0]) if len(exact) == 1 or (exact and not constant) else None


def _first(
    vector: Vector, numbers: dict[str, Vector], patterns: tuple[Pattern, ...], constant: bool
) -> Expression | None:
    """The first pattern and symbols that give the vector."""

    @functools.cache
    def pool(test: Callable[[str, Any], bool]) -> list[str]:
        return [
            name for name, symbol in numbers.items() if all(test(name, symbol[i]) for i in vector)
        ]

    for pattern in patterns:
        if constant and pattern.constant is None:
            continue
        pools = [pool(test) for test in pattern.accepts]
        if len(pools) > 2 and prod(map(len, pools)) > _MOST:
            continue
        for names in product(*pools):
            if len(set(names)) < len(names):
                continue
            if constant and pattern.constant is not None and not pattern.constant(*names):
                continue
            columns = [numbers[name] for name in names]
            fits = all(
                _close(pattern.function(*(c[i] for c in columns)), value)
                for i, value in vector.items()
            ) and (constant or is_told(pattern, names, [[c[i] for i in vector] for c in columns]))
            if fits and _has_a_value(pattern.template, columns):
                return Expression(names, pattern.template)
    return None


def _has_a_value(template: str, columns: list[Vector]) -> bool:
    """Whether a form can be worked out in every instance, those too that do without the number: no division by 0 heads."""
    rows = [[column.get(i) for column in columns] for i in columns[0]]
    try:
        for row in rows:
            if all(type(value) in (int, float) for value in row):
                eval(template.format(*row), {"__builtins__": {}, "int": int})
    except ZeroDivisionError:
        return False
    return True


def _multiple(vector: Vector, numbers: dict[str, Vector], most: int = 2) -> Expression | None:
    """`16 * {}` or `6 * {} * {}`: a whole multiple of up to `most` numbers that change, the same in every instance."""
    moving = {n: s for n, s in numbers.items() if len({s[i] for i in vector}) > 1}
    usable = {
        n: s for n, s in moving.items() if all(type(s[i]) is int and s[i] > 0 for i in vector)
    }
    first = min(vector)
    pairs = combinations_with_replacement(usable, 2) if most > 1 else ()
    for names in (*combinations(usable, 1), *pairs):
        products = {i: prod(usable[name][i] for name in names) for i in vector}
        k, rest = divmod(vector[first], products[first])
        if rest == 0 and 1 < k <= _LARGEST and all(vector[i] == k * products[i] for i in vector):
            square = len(names) == 2 and names[0] == names[1]
            form = "{} ** 2" if square else " * ".join(["{}"] * len(names))
            return Expression(names[:1] if square else names, f"{k} * {form}")
    return None


#: A larger factor is no part of a formula.
_LARGEST = 256


def _close(got: Any, wanted: Any) -> bool:
    """Equal, or the same float but for rounding."""
    if got is None or isinstance(wanted, bool) != isinstance(got, bool):
        return False
    if isinstance(wanted, float):
        return abs(got - wanted) <= 1e-9 * abs(wanted) < float("inf")
    return bool(got == wanted)


def _is_number(vector: Vector, symbol: Vector) -> bool:
    return all(type(symbol.get(i)) in (int, float) for i in vector)


def _equal(vector: Vector, symbol: Vector) -> bool:
    return all(
        i in symbol and type(symbol[i]) is type(value) and symbol[i] == value
        for i, value in vector.items()
    )


def _flag(
    vector: Vector, symbols: dict[str, Vector], hints: tuple[str, ...], made: frozenset[str]
) -> Expression | None:
    """A yes or no that a symbol is, or that follows from comparing numbers."""
    constant = is_constant(vector)
    for name in sorted(symbols, key=lambda n: n not in hints):
        if (name in hints or not constant) and _equal(vector, symbols[name]):
            return _named(name)
    if constant:
        return None
    plain = {n: s for n, s in symbols.items() if n not in made and _is_number(vector, s)}
    return _first(vector, plain, CONDITIONS, constant=False)


def find_far(vector: Vector, symbols: dict[str, Vector]) -> Expression | None:
    """A yes or no by what holds by chance more often; for where `find` has nothing over any symbols."""
    if is_constant(vector) or not all(isinstance(value, bool) for value in vector.values()):
        return None
    numbers = {name: symbol for name, symbol in symbols.items() if _is_number(vector, symbol)}
    return _first(vector, numbers, FAR_CONDITIONS, constant=False)
