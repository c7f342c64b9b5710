"""Writes into part of an array: each gives a new array, as everything does in MLX's functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from porter.ir import Size, Value
from porter.ir.builder import simplify
from porter.lowering.axes import axis_of
from porter.lowering.creation import made
from porter.lowering.promotion import is_scalar
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering

_END = 2**63 - 1


def _spread(call: Call, x: Any, shape: Sequence[Size], dtype: str) -> Value:
    """The value to write, of the shape and type of what it replaces."""
    if not isinstance(x, Value):
        return call.build.node(
            "mx.full", tuple(shape), x, shapes=[tuple(shape)], dtypes=[dtype], dtype=dtype
        ).output
    x = call.build.cast(x, dtype)
    if x.shape == tuple(shape):
        return x
    return call.build.op("mx.broadcast_to", x, tuple(shape), shape=shape, dtype=dtype)


@lowering("aten.copy.default", "aten.copy_.default")
def copy(call: Call, x: Value, source: Value, non_blocking: bool = False) -> Value:
    return _spread(call, source, call.shape, call.dtype)


@lowering("aten.slice_scatter.default")
def slice_scatter(
    call: Call,
    x: Value,
    source: Value,
    dim: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> Value:
    """Before, the new part, after; or, with a step, a write along the axis."""
    axis = axis_of(dim, x.rank)
    size = x.shape[axis]
    start, end = _bound(start, size, 0), _bound(end, size, size)
    source = call.build.cast(source, x.dtype)
    if step != 1:
        length = source.shape[axis]
        places = made(call, "mx.arange", start, end, step, shape=(length,), dtype="int32")
        return _put(call, x, places, source, axis)
    whole = [slice(None)] * axis
    parts = []
    if start != 0:
        parts.append(call.build.index(x, (*whole, slice(None, start)), _resized(x, axis, start)))
    parts.append(source)
    if end != size:
        parts.append(
            call.build.index(x, (*whole, slice(end, None)), _resized(x, axis, simplify(size - end)))
        )
    if len(parts) == 1:
        return source
    return call.build.op("mx.concatenate", parts, shape=x.shape, dtype=x.dtype, axis=axis)


def _bound(bound: Any, size: Size, default: Size) -> Size:
    if bound is None or bound == _END:
        return default
    if isinstance(bound, int) and bound < 0:
        return simplify(bound + size)
    if isinstance(bound, int) and isinstance(size, int):
        return min(bound, size)
    return bound


def _resized(x: Value, axis: int, size: Size) -> tuple[Size, ...]:
    return tuple(size if position == axis else have for position, have in enumerate(x.shape))


@lowering("aten.select_scatter.default")
def select_scatter(call: Call, x: Value, source: Value, dim: int, index: Size) -> Value:
    axis = axis_of(dim, x.rank)
    if isinstance(index, int) and index < 0:
        index = simplify(index + x.shape[axis])
    wide = call.build.op(
        "mx.expand_dims", source, axis, shape=_resized(x, axis, 1), dtype=source.dtype
    )
    return slice_scatter(call, x, wide, axis, index, simplify(index + 1))


def _put(call: Call, x: Value, places: Value, source: Value, axis: int) -> Value:
    """x with x[..., places, ...] = source along one axis."""
    if x.rank == 0 or places.rank != 1:
        raise refuse(call, "a scalar among its arguments")
    shape = _resized(x, axis, places.shape[0])
    column = call.build.reshape(
        places, tuple(places.shape[0] if a == axis else 1 for a in range(x.rank))
    )
    wide = _spread(call, column, shape, places.dtype)
    return call.build.op(
        "mx.put_along_axis", x, wide, source, shape=x.shape, dtype=x.dtype, axis=axis
    )


@lowering("aten.index_put.default", "aten.index_put_.default", "aten._unsafe_index_put.default")
def index_put(
    call: Call, x: Value, indices: Sequence[Value | None], values: Any, accumulate: bool = False
) -> Value:
    """With one mask and one value to write, or one index array."""
    given = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if accumulate or len(given) != 1:
        raise refuse(call, "it adds up, or has several index arrays")
    axis, index = given[0]
    if index.dtype == "bool":
        if not _is_single(values):
            raise refuse(
                call, "as many values as the mask has places: a size that depends on the data"
            )
        shape = (*index.shape, *[1] * (x.rank - axis - index.rank))
        mask = call.build.reshape(index, shape)
        value = call.build.cast(values, x.dtype) if isinstance(values, Value) else values
        return call.build.op("mx.where", mask, value, x, shape=x.shape, dtype=x.dtype)
    if index.rank != 1:
        raise refuse(call, "an index array of more than one axis")
    return _put(
        call, x, index, _spread(call, values, _resized(x, axis, index.shape[0]), x.dtype), axis
    )


@lowering("aten.masked_scatter.default", "aten.masked_scatter_.default")
def masked_scatter(call: Call, x: Value, mask: Value, source: Value) -> Value:
    """The source's elements, in their order, where the mask is true.

    A mask that is the same along x's last axis takes the source row by row.
    """
    build = call.build
    if x.shape != call.shape:
        x = build.op("mx.broadcast_to", x, tuple(call.shape), shape=call.shape, dtype=x.dtype)
    narrow = _before_broadcast(mask)
    by_row = (
        x.rank > 1
        and narrow.rank == x.rank
        and narrow.shape[-1] == 1
        and narrow.shape[:-1] == x.shape[:-1]
        and source.rank > 0
        and source.shape[-1] == x.shape[-1]
    )
    if by_row:
        picked = build.reshape(narrow, x.shape[:-1])
        rows = (
            source
            if source.rank == 2
            else build.reshape(source, (_count(source.shape[:-1]), x.shape[-1]))
        )
        chosen, shape, mask = picked, x.shape, narrow
    else:
        if mask.shape != x.shape:
            mask = build.op("mx.broadcast_to", mask, tuple(x.shape), shape=x.shape, dtype="bool")
        rows = build.reshape(source, (_count(source.shape),))
        chosen, shape = mask, x.shape
    total = _count(chosen.shape)
    order = build.op("mx.cumsum", build.reshape(chosen, (total,)), shape=(total,), dtype="int32")
    place = build.op("-", order, 1, shape=(total,), dtype="int32")
    place = build.reshape(place, chosen.shape)
    taken = build.index(rows, (place,), shape)
    return build.op("mx.where", mask, build.cast(taken, x.dtype), x, shape=x.shape, dtype=x.dtype)


def _before_broadcast(mask: Value) -> Value:
    """The mask without an expand that the author wrote for torch's sake."""
    while (
        mask.node is not None
        and mask.node.op == "mx.broadcast_to"
        and mask.node.args[0].rank == mask.rank
    ):
        mask = mask.node.args[0]
    return mask


def _count(shape: Sequence[Size]) -> Size:
    total: Size = 1
    for size in shape:
        total = total * size
    return simplify(total)


def _is_single(value: Any) -> bool:
    return is_scalar(value) or all(size == 1 for size in value.shape)


@lowering("aten.scatter.src", "aten.scatter.value", "aten.scatter_.src", "aten.scatter_.value")
def scatter(call: Call, x: Value, dim: int, places: Value, source: Any) -> Value:
    """Along one axis, with the index array as large as x along the others."""
    if x.rank == 0 or places.rank == 0:
        raise refuse(call, "a scalar among its arguments")
    axis = axis_of(dim, x.rank)
    pairs: list[tuple[Any, Any]] = list(zip(x.shape, places.shape, strict=True))
    if any(a != axis and have != want for a, (have, want) in enumerate(pairs)):
        raise refuse(call, "the index array leaves out a part of x")
    if isinstance(source, Value) and source.shape != places.shape:
        pairs = list(zip(source.shape, places.shape, strict=True))
        key = [slice(None) if have == want else slice(None, want) for have, want in pairs]
        source = call.build.index(source, key, places.shape)
    source = _spread(call, source, places.shape, x.dtype)
    return call.build.op(
        "mx.put_along_axis", x, places, source, shape=x.shape, dtype=x.dtype, axis=axis
    )


@lowering("aten.index_copy.default", "aten.index_copy_.default")
def index_copy(call: Call, x: Value, dim: int, places: Value, source: Value) -> Value:
    return _put(call, x, places, call.build.cast(source, x.dtype), axis_of(dim, x.rank))


@lowering("aten.index_fill.int_Scalar", "aten.index_fill_.int_Scalar")
def index_fill(call: Call, x: Value, dim: int, places: Value, value: Any) -> Value:
    if x.rank == 0 or places.rank != 1:
        raise refuse(call, "a scalar among its arguments")
    axis = axis_of(dim, x.rank)
    return _put(
        call, x, places, _spread(call, value, _resized(x, axis, places.shape[0]), x.dtype), axis
    )
