"""The recurrences over tokens that porter knows, and the test whether a piece of a program is one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import mlx.core as mx
import numpy as np
from sympy import Basic, Function

from porter.functions import function
from porter.ir import Node, Program, Size, Value
from porter.ir.builder import Builder
from porter.ir.evaluate import Unknown
from porter.lowering.parameters import column
from porter.passes.positions import as_array, at_length, length_symbol

_LENGTHS = (5, 9)
_CLOSE = 1e-4
#: The axes of a table of powers.
_POWERS = "1HNN"
_DOES_NOT_RUN = (Unknown, ValueError, RuntimeError, TypeError)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """`function` of arrays with these axes (letters; B is samples, L tokens) gives one with the axes `result`.

    `numbers` proposes what follows the arrays, from the piece's own numbers; with `scaled` that is what queries are multiplied
    with before. The last array may be a table of powers of a number for each head, of which the function takes that number.
    """

    function: str
    axes: tuple[str, ...]
    result: str
    numbers: Callable[[list[Node]], Iterator[tuple[Any, ...]]]
    scaled: bool = False

    @property
    def has_powers(self) -> bool:
        return self.axes[-1] == _POWERS

    def run(self, arrays: list[mx.array], numbers: tuple[Any, ...]) -> mx.array:
        arrays = [a.reshape(a.shape[: len(n)]) for a, n in zip(arrays, self.axes, strict=True)]
        if self.has_powers:
            arrays = [*arrays[:-1], arrays[-1][0, :, 1, 0]]
        if self.scaled:
            arrays, numbers = [arrays[0] * numbers[0], *arrays[1:]], numbers[1:]
        return function(self.function)(*arrays, *numbers)

    def build(
        self, last: Value, args: list[Value], numbers: tuple[Any, ...], length: Size
    ) -> tuple[list[Node], Value]:
        """The call in the place of the piece that gives `last`."""
        assert last.node is not None
        build = Builder(last.node.scope, last.node.location)
        turned = [build.transpose(value, tokens_second(value, length)) for value in args]
        for i, (value, axes) in enumerate(zip(turned, self.axes, strict=True)):
            turned[i] = build.reshape(value, value.shape[: len(axes)])
        if self.has_powers:
            turned[-1] = column(turned[-1], (0, None, 1, 0))
        if self.scaled:
            if numbers[0] != 1.0:
                turned[0] = build.op("*", turned[0], numbers[0])
            numbers = numbers[1:]
        order = tokens_second(last, length)
        shape = [last.shape[axis] for axis in order]
        y = build.op(f"fn.{self.function}", *turned, *numbers, shape=shape, dtype=last.dtype)
        y = build.transpose(y, [order.index(axis) for axis in range(last.rank)])
        for node in build.nodes:
            node.layout = node.op == ".transpose" and last.rank == 3
        return build.nodes, y


def _powers(shape: list[Any]) -> mx.array:
    """A table of powers of numbers below 1: of each head, by how far a key lies behind a query."""
    place = mx.arange(shape[-1])
    rates = mx.linspace(0.3, 0.9, shape[1])[:, None, None]
    return mx.tril(rates ** mx.maximum(place[:, None] - place, 0))[None]


def _limits(nodes: list[Node]) -> Iterator[tuple[Any, ...]]:
    """The bounds of the step: (low, high), which the source clips it to."""
    for node in nodes:
        if node.op == "mx.clip" and all(isinstance(n, (int, float)) for n in node.args[1:3]):
            yield (tuple(map(float, node.args[1:3])),)
    yield ((0.0, math.inf),)


def _epsilon(nodes: list[Node]) -> Iterator[tuple[Any, ...]]:
    """What is added to a sum of squares, and whether the step goes up to 2."""
    for number in _small(nodes):
        yield from ((number, False), (number, True))


def _small(nodes: list[Node]) -> list[float]:
    small = [n for node in nodes for n in node.args if isinstance(n, float) and 0 < n < 1e-3]
    return list(dict.fromkeys([*small, 1e-6]))


def _scales(nodes: list[Node]) -> Iterator[tuple[Any, ...]]:
    """1, and the numbers that arrays are multiplied with."""
    factors = [n for node in nodes if node.op == "*" for n in node.args if isinstance(n, float)]
    yield from ((number,) for number in dict.fromkeys([1.0, *factors]))


def _scale_and_epsilon(nodes: list[Node]) -> Iterator[tuple[Any, ...]]:
    """The scale, and a small number that is added."""
    for (scale,) in _scales(nodes):
        yield from ((scale, number) for number in _small(nodes))


def _none(nodes: list[Node]) -> Iterator[tuple[Any, ...]]:
    del nodes
    yield ()


#: By name, the most special first.
RECURRENCES: dict[str, Recurrence] = {
    "state space": Recurrence(
        "state_space", ("BLHP", "BLH", "H", "BLGN", "BLGN", "H", "H"), "BLHP", _limits
    ),
    "gated delta": Recurrence(
        "gated_delta", ("BLGD", "BLGD", "BLHP", "BLH", "BLH", "H", "H"), "BLHP", _epsilon
    ),
    "delta rule": Recurrence(
        "delta_rule", ("BLHD", "BLHD", "BLHP", "BLH", "BLH"), "BLHP", _scales, scaled=True
    ),
    "delta rule by feature": Recurrence(
        "delta_rule", ("BLHD", "BLHD", "BLHP", "BLHD", "BLH"), "BLHP", _scales, scaled=True
    ),
    "selective scan": Recurrence(
        "selective_scan", ("BLD", "BLD", "DN", "BLN", "BLN", "D"), "BLD", _none
    ),
    "wkv": Recurrence("wkv", ("BLD", "BLD", "D", "D"), "BLD", _none),
    "matrix lstm": Recurrence(
        "matrix_lstm",
        ("BLHD", "BLHD", "BLHP", "BLH", "BLH"),
        "BLHP",
        _scale_and_epsilon,
        scaled=True,
    ),
    "decayed attention": Recurrence(
        "decayed_attention", ("BLHD", "BLHD", "BLHP", _POWERS), "BLHP", _none
    ),
    "gated scan": Recurrence("gated_scan", ("BLD", "BLD"), "BLD", _none),
}


def tokens_second(value: Value, length: Size) -> list[int]:
    """The order of the axes in which tokens are the second one; as they are for what has no tokens, or several axes of them."""
    order = list(range(value.rank))
    places = [axis for axis, size in enumerate(value.shape) if size == length]
    if len(places) == 1 and value.rank > 2:
        order.insert(1, order.pop(places[0]))
    return order


def _shape(value: Value, length: Size) -> list[Size]:
    return [value.shape[axis] for axis in tokens_second(value, length)]


def recognize(
    program: Program, nodes: list[Node], entries: list[Value], last: Value
) -> tuple[str, tuple[int, ...], tuple[Any, ...]] | None:
    """(name, which entry each argument is, the numbers after them) of the recurrence that the nodes compute, if any."""
    length = length_symbol(program)
    for name, recurrence in RECURRENCES.items():
        if len(entries) != len(recurrence.axes):
            continue
        shapes = [_shape(value, length) for value in (*entries, last)]
        fits = [o for o in permutations(range(len(entries))) if _fits(recurrence, o, shapes)]
        if not fits:
            continue
        drawn: dict[Value, mx.array] = {}
        if recurrence.has_powers:
            fits = [order for order in fits if entries[order[-1]].is_parameter]
            drawn = {entries[order[-1]]: _powers(list(entries[order[-1]].shape)) for order in fits}
        cases = _cases(program, nodes, entries, last, drawn)
        if cases is None:
            return None
        for order in fits:
            for numbers in recurrence.numbers(nodes):
                if all(_agrees(recurrence, order, numbers, *case) for case in cases):
                    return name, order, numbers
    return None


def _cases(
    program: Program,
    nodes: list[Node],
    entries: list[Value],
    last: Value,
    drawn: dict[Value, mx.array],
) -> list[tuple[list[mx.array], np.ndarray]] | None:
    """Random features and what the piece makes of them, for few tokens, and for more than a chunk has.

    The longer text is left out where the graph was traced for one chunk alone and does not run on it.
    """
    try:
        few = (program.unrolled,) if program.unrolled else _LENGTHS
        cases = [_case(program, entries, last, n, drawn) for n in few]
    except _DOES_NOT_RUN:
        return None
    sizes = [n for node in nodes for v in node.outputs for n in v.shape if isinstance(n, Basic)]
    calls = {call for size in sizes for call in size.atoms(Function)}
    chunks = [c.args[1] for c in calls if c.func.__name__.endswith("Mod") and c.args[1].is_Integer]
    with suppress(*_DOES_NOT_RUN):
        cases += [_case(program, entries, last, int(max(chunks)) + 3, drawn)] if chunks else []
    return cases


def _fits(recurrence: Recurrence, order: tuple[int, ...], shapes: list[list[Size]]) -> bool:
    sizes: dict[str, Any] = {}
    given = [*(shapes[i] for i in order), shapes[-1]]
    for axes, shape in zip((*recurrence.axes, recurrence.result), given, strict=True):
        if shape[len(axes) :] not in ([], [1]):  # one feature more says nothing
            return False
        shape = shape[: len(axes)]
        if len(axes) != len(shape):
            return False
        for axis, size in zip(axes, shape, strict=True):
            if sizes.setdefault(axis, 1 if axis == "1" else size) != size:
                return False
    heads, groups = sizes.get("H"), sizes.get("G")
    return groups is None or heads % groups == 0


def _case(
    program: Program, entries: list[Value], last: Value, length: int, drawn: dict[Value, mx.array]
) -> tuple[list[mx.array], np.ndarray]:
    """Random features and what the piece makes of them."""
    sizes = at_length(program, length)
    arrays = [
        drawn[value]
        if value in drawn
        else 0.7 * mx.random.normal([sizes.size(n) for n in value.shape], key=mx.random.key(i))
        for i, value in enumerate(entries)
    ]
    run = at_length(program, length, dict(zip(entries, arrays, strict=True)))
    result = as_array(run(last))
    if result.shape != tuple(sizes.size(n) for n in last.shape):
        raise ValueError("the piece was traced for other lengths")
    symbol = length_symbol(program)
    turned = [a.transpose(tokens_second(v, symbol)) for a, v in zip(arrays, entries, strict=True)]
    return turned, result.transpose(tokens_second(last, symbol))


def _agrees(
    recurrence: Recurrence, order: tuple[int, ...], numbers: tuple[Any, ...],
    arrays: list[mx.array], expected: np.ndarray,
) -> bool:  # fmt: skip
    try:
        found = as_array(recurrence.run([arrays[i] for i in order], numbers))
    except (ValueError, RuntimeError):
        return False
    if found.shape != expected.shape or not expected.size or not np.isfinite(expected).all():
        return False
    return bool(np.abs(found - expected).max() <= _CLOSE * np.abs(expected).max())
