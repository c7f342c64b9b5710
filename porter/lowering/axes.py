"""Axis arguments: torch allows negative ones, lists, and none for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from porter.ir import Size, Value
from porter.lowering.registry import Call


def axis_of(dim: int, rank: int) -> int:
    """A nonnegative axis; a scalar counts as having one."""
    return dim % max(rank, 1)


def axes_of(dims: int | Iterable[int] | None, rank: int) -> tuple[int, ...]:
    """Nonnegative axes in increasing order; None and an empty list mean all of them."""
    if dims is None:
        return tuple(range(rank))
    if isinstance(dims, int):
        return (axis_of(dims, rank),)
    return tuple(sorted({axis_of(dim, rank) for dim in dims})) or tuple(range(rank))


def on_one_axis(call: Call, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A call whose scalar arrays are taken as arrays of one element, its results as scalars again."""

    def lifted(item: Any) -> Any:
        is_single = isinstance(item, Value) and item.rank == 0
        return call.build.reshape(item, (1,)) if is_single else item

    outputs = [(shape or (1,), dtype) for shape, dtype in call.outputs]
    inner = replace(call, outputs=outputs)
    result = function(inner, *map(lifted, args), **{k: lifted(v) for k, v in kwargs.items()})
    shapes = [shape for shape, _ in call.outputs]
    if isinstance(result, Value):
        return call.build.reshape(result, shapes[0])
    return [
        call.build.reshape(x, shape) if x.node is not None else x
        for x, shape in zip(result, shapes, strict=True)
    ]


def collapse(values: Sequence[Size]) -> Size | tuple[Size, ...]:
    """An int where all are equal: a kernel of (3, 3) is written 3."""
    return values[0] if all(value == values[0] for value in values) else tuple(values)


def spread(value: int | Sequence[int], count: int) -> tuple[int, ...]:
    """One value for each of `count` axes: torch takes 3 and [3] for (3, 3)."""
    if isinstance(value, int):
        return (value,) * count
    return tuple(value) * count if len(value) == 1 else tuple(value)


def channels_last(rank: int) -> tuple[int, ...]:
    """(N, C, ...) to (N, ..., C)."""
    return (0, *range(2, rank), 1)


def channels_first(rank: int) -> tuple[int, ...]:
    """(N, ..., C) to (N, C, ...)."""
    return (0, rank - 1, *range(1, rank - 1))
