"""Numbers as expressions over named ones, checked on every instance."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement, product
from math import prod
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
    whole = {name: symbol for name, symbol in numbers.items() if name not in partial}
    if isinstance(values[0], float) and "scale" in hints:
        power = _first(vector, whole, SCALES, is_constant(vector))
        if power is not None:
            return power
    named = _exact(vector, numbers, hints, strict, unproven)
    if named is not None or strict or isinstance(values[0], float):
        return named
    constant = is_constant(vector)
    if constant:
        if abs(values[0]) <= 3:
            return None
        return _first(vector, whole, PADDINGS if "padding" in hints else COMPOSITES, constant)
    parts = elements(vector, symbols, from_end="depth" not in hints)
    element = next((_named(name) for name in parts if _equal(vector, parts[name])), None)
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
    """`dims[0]`, `dims[1]`, ... of the symbols that are tuples of one length wherever the vector is known.

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
            if all(type(value) is int for value in column.values()):
                found[f"{name}[{-1 if from_end and place == last > 0 else place}]"] = column
    return found


#: A longer tuple is a table and no list of sizes.
_LONGEST = 8


@dataclass(frozen=True, slots=True)
class Pattern:
    """A form of expression: `function` of as many symbols as `template` has places, each passing its test in `accepts`.

    A constant fits many forms by chance, so only patterns with `constant` are tried on one, with names that pass it.
    """

    template: str
    function: Callable[..., Any]
    accepts: tuple[Callable[[str, Any], bool], ...]
    constant: Callable[..., bool] | None = None


def _is_size(name: str, value: Any) -> bool:
    del name
    return type(value) is int and value > 3


def _is_integer(name: str, value: Any) -> bool:
    del name
    return type(value) is int


def _is_count(name: str, value: Any) -> bool:
    del name
    return type(value) is int and value > 0


def _is_ratio(name: str, value: Any) -> bool:
    return isinstance(value, float) and value > 0 and "ratio" in name


def _is_kernel(name: str, value: Any) -> bool:
    return type(value) is int and "kernel" in name


def _is_head_size(name: str, value: Any) -> bool:
    return (
        type(value) is int
        and value > 1
        and bool(words(name) & {"dim", "kv", "heads", "hidden", "channels", "model"})
        and not _counts_heads(name)
    )


def _counts_heads(name: str) -> bool:
    return {"num", "heads"} <= words(name) and "dim" not in words(name)


def _is_size_of_head(name: str, value: Any) -> bool:
    """head_dim, d_kv, v_head_dim: a number that a number of heads is multiplied with."""
    known = words(name) - {"num"} == words(name) and (
        "kv" in words(name) or {"heads", "dim"} <= words(name)
    )
    return type(value) is int and value > 1 and known


def _is_heads(name: str, value: Any) -> bool:
    return type(value) is int and value > 1 and "heads" in words(name)


def _is_key_heads(name: str, value: Any) -> bool:
    return _is_heads(name, value) and bool(words(name) & {"kv", "key"})


def _is_patch(name: str, value: Any) -> bool:
    return type(value) is int and bool(words(name) & {"patch", "kernel", "window"})


def _is_width(name: str, *_: str) -> bool:
    """Whether a config's field speaks of the model's width, of which other sizes are multiples."""
    return bool(words(name) & {"dim", "hidden", "model"}) and "num" not in words(name)


def _of_heads_or_patches(whole: str, part: str, *_: str) -> bool:
    """Whether one of the names speaks of a width and the other of heads, or of an image and its patches."""
    return "patch" in words(part) or ("heads" in words(part) and "heads" not in words(whole))


def _of_image_and_patch(*names: str) -> bool:
    return bool(words(names[0]) & {"img", "image", "resolution"}) and "patch" in words(names[1])


def _quotient(a: int, b: int) -> int | None:
    return a // b if b > 1 and a % b == 0 else None


def _squared_quotient(a: int, b: int) -> int | None:
    return (a // b) ** 2 if b > 1 else None


#: Forms of a size, the likelier first.
COMPOSITES: tuple[Pattern, ...] = (
    Pattern("int({} * {})", lambda a, ratio: int(a * ratio), (_is_size, _is_ratio), _is_width),
    Pattern("{} * {}", lambda a, b: a * b, (_is_size_of_head, _is_heads), lambda *_: True),
    Pattern(
        "{} // {} * {}",
        lambda a, b, c: None if a % b else a // b * c,
        (_is_size, _is_heads, _is_key_heads),
        _of_heads_or_patches,
    ),
    *(Pattern(f"{k} * {{}}", lambda a, k=k: k * a, (_is_size,), _is_width) for k in (2, 3, 4)),
    *(Pattern(f"{{}} // {k}", lambda a, k=k: _quotient(a, k), (_is_size,)) for k in (2, 4)),
    Pattern("{} ** 2", lambda a: a * a, (_is_size,)),
    Pattern("{} // {}", _quotient, (_is_size, _is_count), _of_heads_or_patches),
    Pattern("({} // {}) ** 2", _squared_quotient, (_is_size, _is_count), _of_image_and_patch),
    Pattern(
        "({} // {}) ** 2 + 1",
        lambda a, b: (a // b) ** 2 + 1,
        (_is_size, _is_count),
        _of_image_and_patch,
    ),
    *(Pattern(f"{k} * {{}}", lambda a, k=k: k * a, (_is_size,)) for k in (5, 6, 8)),
    *(
        Pattern(f"{{}} {'+-'[k < 0]} {abs(k)}", lambda a, k=k: a + k, (_is_size,))
        for k in (1, 2, -1)
    ),
    Pattern("{} * {}", lambda a, b: a * b, (_is_count, _is_count)),
    Pattern("{} ** 2 * {}", lambda a, b: a * a * b, (_is_patch, _is_count)),
    Pattern("{} + {}", lambda a, b: a + b, (_is_count, _is_count)),
    Pattern("{} - {}", lambda a, b: a - b, (_is_count, _is_count)),
    Pattern("{} + {} * {}", lambda a, b, c: a + b * c, (_is_count, _is_count, _is_count)),
)
#: Forms of a size over one element of a tuple.
MULTIPLES: tuple[Pattern, ...] = (
    *(Pattern(f"{k} * {{}}", lambda a, k=k: k * a, (_is_size,)) for k in (2, 3, 4, 6, 8)),
    *(Pattern(f"{{}} // {k}", lambda a, k=k: _quotient(a, k), (_is_size,)) for k in (2, 4)),
    Pattern("{} + {}", lambda a, b: a + b, (_is_size, _is_size)),
)
#: Forms of a size over an element of a tuple and another number.
QUOTIENTS: tuple[Pattern, ...] = (Pattern("{} // {}", _quotient, (_is_size, _is_count)),)
PADDINGS: tuple[Pattern, ...] = (Pattern("{} // 2", lambda k: k // 2, (_is_kernel,)),)
#: Attention scales: a head's size to the power of -1/2.
SCALES: tuple[Pattern, ...] = (
    Pattern("{} ** -0.5", lambda a: a**-0.5 if a > 1 else None, (_is_head_size,), lambda *_: True),
    Pattern(
        "({} // {}) ** -0.5",
        lambda a, b: (a // b) ** -0.5 if a % b == 0 and a > b else None,
        (_is_integer, _is_heads),
        lambda *_: True,
    ),
)
#: Conditions on an optional part.
CONDITIONS: tuple[Pattern, ...] = (
    Pattern("{} > 0", lambda a: a > 0, (_is_integer,)),
    Pattern("{} != 1", lambda a: a != 1, (_is_integer,)),
    Pattern("{} != {}", lambda a, b: a != b, (_is_integer, _is_integer)),
    Pattern("{} == {}", lambda a, b: a == b, (_is_integer, _is_integer)),
    Pattern(
        "{} == {} and {} == 1",
        lambda a, b, c: a == b and c == 1,
        (_is_integer, _is_integer, _is_integer),
    ),
)
#: Conditions that hold by chance more often: where nothing simpler does.
FAR_CONDITIONS: tuple[Pattern, ...] = tuple(
    Pattern(f"{{}} != {k} * {{}}", lambda a, b, k=k: a != k * b, (_is_integer, _is_integer))
    for k in (2, 4)
)


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
        name for name in exact if words(name) & telling and not (of_size and _counts_heads(name))
    ]
    value = next(iter(vector.values()))
    constant = is_constant(vector)
    small = constant and isinstance(value, int) and abs(value) <= 3
    if related and not (small and max(len(words(name) & telling) for name in related) < 2):
        return _named(max(related, key=lambda name: len(words(name) & wanted)))
    if strict or small or (constant and isinstance(value, float)):
        return None
    exact = [name for name in exact if name not in unproven]
    return _named(exact[0]) if len(exact) == 1 or (exact and not constant) else None


def _first(
    vector: Vector, numbers: dict[str, Vector], patterns: tuple[Pattern, ...], constant: bool
) -> Expression | None:
    """The first pattern and symbols that give the vector."""
    for pattern in patterns:
        if constant and pattern.constant is None:
            continue
        pools = [
            [name for name, symbol in numbers.items() if all(test(name, symbol[i]) for i in vector)]
            for test in pattern.accepts
        ]
        if len(pools) > 2 and prod(map(len, pools)) > _MOST:
            continue
        for names in product(*pools):
            if len(set(names)) < len(names):
                continue
            if constant and pattern.constant is not None and not pattern.constant(*names):
                continue
            columns = [numbers[name] for name in names]
            if not constant and not _told(
                pattern, names, [[c[i] for i in vector] for c in columns]
            ):
                continue
            if all(
                _close(pattern.function(*(c[i] for c in columns)), value)
                for i, value in vector.items()
            ):
                return Expression(names, pattern.template)
    return None


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


def _told(pattern: Pattern, names: tuple[str, ...], columns: list[list[Any]]) -> bool:
    """Whether numbers that never change stand in a form by their names, and not because they happen to fit."""
    if len(names) < 2 or pattern in (*CONDITIONS, *FAR_CONDITIONS):
        return True
    if pattern.constant is not None and pattern.constant(*names):
        return True
    return all(
        test in _BY_NAME or len(set(column)) > 1 or ("+" not in pattern.template and column[0] > 3)
        for test, column in zip(pattern.accepts, columns, strict=True)
    )


#: Tests that ask for a telling name.
_BY_NAME = (_is_ratio, _is_kernel, _is_head_size, _is_size_of_head, _is_heads)


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
