"""Writes into part of an array: each gives a new array, as everything does in MLX's functions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from porter.ir import Size, Value
from porter.ir.builder import broadcast_shapes, simplify
from porter.lowering.axes import axis_of, on_one_axis
from porter.lowering.creation import made
from porter.lowering.promotion import is_scalar, number_of
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering
from porter.lowering.selections import unselected
from porter.lowering.shapes import strided

_END = 2**63 - 1


def spread(call: Call, x: Any, shape: Sequence[Size], dtype: str) -> Value:
    """The value to write, of the shape and type of what it replaces."""
    x = number_of(x)
    if not isinstance(x, Value):
        x = complex(x) if dtype == "complex64" else x
        return call.build.node(
            "mx.full", tuple(shape), x, shapes=[tuple(shape)], dtypes=[dtype], dtype=dtype
        ).output
    x = call.build.cast(x, dtype)
    if x.shape == tuple(shape):
        return x
    return call.build.op("mx.broadcast_to", x, tuple(shape), shape=shape, dtype=dtype)


@lowering("aten.copy.default", "aten.copy_.default")
def copy(call: Call, x: Value, source: Value, non_blocking: bool = False) -> Value:
    return spread(call, source, call.shape, call.dtype)


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
    """Before, the new part, after; or, with a step, a statement."""
    axis = axis_of(dim, x.rank)
    size = x.shape[axis]
    start, end = bound(start, size, 0), bound(end, size, size)
    source = call.build.cast(source, x.dtype)
    if _is_part(x, source, axis, start, end, step):
        return x
    if step != 1:
        part = slice(None if start == 0 else start, None if end == size else end, step)
        key = (*[slice(None)] * axis, part)
        return call.build.node(
            "[]=", x, source, shapes=[x.shape], dtypes=[x.dtype], attrs={"key": key}
        ).output
    whole = [slice(None)] * axis
    parts = []
    if start != 0:
        parts.append(call.build.index(x, (*whole, slice(None, start)), resized(x, axis, start)))
    parts.append(source)
    if end != size:
        parts.append(
            call.build.index(x, (*whole, slice(end, None)), resized(x, axis, simplify(size - end)))
        )
    if len(parts) == 1:
        return source
    return call.build.op("mx.concatenate", parts, shape=x.shape, dtype=x.dtype, axis=axis)


def _is_part(x: Value, source: Value, axis: int, start: Size, end: Size, step: int) -> bool:
    """Whether what is written is what stands there: `x[key] += y` writes into the part, and the part into x."""
    node = source.node
    if node is None or node.op != "[]" or node.args[0] is not x:
        return False
    key = node.attrs["key"]
    if len(key) <= axis or any(part is Ellipsis for part in key):
        return False
    if any(part != slice(None) for place, part in enumerate(key) if place != axis):
        return False
    part, size = key[axis], x.shape[axis]
    if not isinstance(part, slice) or (part.step or 1) != step:
        return False
    return (bound(part.start, size, 0), bound(part.stop, size, size)) == (start, end)


def bound(bound: Any, size: Size, default: Size) -> Size:
    if bound is None or bound == _END:
        return default
    if isinstance(bound, int) and bound < 0:
        return simplify(bound + size)
    if isinstance(bound, int) and isinstance(size, int):
        return min(bound, size)
    return bound


def resized(x: Value, axis: int, size: Size) -> tuple[Size, ...]:
    return tuple(size if position == axis else have for position, have in enumerate(x.shape))


@lowering("aten.select_scatter.default")
def select_scatter(call: Call, x: Value, source: Value, dim: int, index: Size) -> Value:
    axis = axis_of(dim, x.rank)
    if isinstance(index, int) and index < 0:
        index = simplify(index + x.shape[axis])
    wide = call.build.op(
        "mx.expand_dims", source, axis, shape=resized(x, axis, 1), dtype=source.dtype
    )
    return slice_scatter(call, x, wide, axis, index, simplify(index + 1))


def _put(call: Call, x: Value, places: Value, source: Value, axis: int) -> Value:
    """x with x[..., places, ...] = source along one axis."""
    if x.rank == 0 or places.rank != 1:
        raise refuse(call, "a scalar among its arguments")
    shape = resized(x, axis, places.shape[0])
    column = call.build.reshape(
        places, tuple(places.shape[0] if a == axis else 1 for a in range(x.rank))
    )
    wide = spread(call, column, shape, places.dtype)
    return call.build.op(
        "mx.put_along_axis", x, wide, source, shape=x.shape, dtype=x.dtype, axis=axis
    )


@lowering("aten.index_put.default", "aten.index_put_.default", "aten._unsafe_index_put.default")
def index_put(
    call: Call, x: Value, indices: Sequence[Value | None], values: Any, accumulate: bool = False
) -> Value:
    """A mask is a choice; one index array a write along its axis where it is the only one; else an indexed write."""
    given = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    axis, index = given[0]
    if isinstance(values, Value):
        values = call.build.cast(values, x.dtype)
    values = number_of(values)
    if len(given) == 1 and index.dtype in ("bool", "uint8"):
        if axis == 0 or _is_single(values):
            return _put_by_mask(call, x, axis, index, values, accumulate)
        raise refuse(call, "a mask over later axes with several values")
    if any(index.dtype in ("bool", "uint8") for _, index in given):
        raise refuse(call, "a mask beside other index arrays")
    if len(given) == 1 and index.rank == 1 and not accumulate:
        wide = spread(call, values, resized(x, axis, index.shape[0]), x.dtype)
        return _put(call, x, index, wide, axis)
    name = "fn.index_add" if accumulate else "fn.index_put"
    values = values if isinstance(values, Value) else spread(call, values, (), x.dtype)
    return call.build.op(name, x, list(indices), values, shape=x.shape, dtype=x.dtype)


@lowering("aten._unsafe_masked_index_put_accumulate.default")
def masked_index_put(
    call: Call, x: Value, mask: Value, indices: Sequence[Value | None], values: Value
) -> Value:
    """Adds nothing where the mask is false, where the index may lie outside."""
    build = call.build
    shape = broadcast_shapes(mask.shape, values.shape)
    values = build.op("mx.where", mask, values, 0, shape=shape, dtype=values.dtype)
    inside = [
        i
        if i is None
        else build.op("mx.clip", i, -size, simplify(size - 1), shape=i.shape, dtype=i.dtype)
        for i, size in zip(indices, x.shape, strict=False)
    ]
    return index_put(call, x, inside, values, accumulate=True)


def _put_by_mask(
    call: Call, x: Value, axis: int, mask: Value, values: Any, accumulate: bool
) -> Value:
    build = call.build
    mask = build.cast(mask, "bool")
    rest = x.rank - axis - mask.rank
    wide = build.reshape(mask, (*mask.shape, *[1] * rest))
    whole = unselected(build, values, mask) if isinstance(values, Value) else None
    if whole is not None and whole.shape == x.shape and not accumulate:
        return build.op("mx.where", wide, whole, x, shape=x.shape, dtype=x.dtype)
    if isinstance(values, Value) and values.rank > rest and not _is_single(values):
        if accumulate:
            nothing = build.op("mx.zeros_like", x, shape=x.shape, dtype=x.dtype)
            put = build.op("fn.masked_put", nothing, mask, values, shape=x.shape, dtype=x.dtype)
            return build.op("+", x, put, shape=x.shape, dtype=x.dtype)
        if values.rank == rest + 1 and values.shape[0] != 1:
            return build.op("fn.masked_put", x, mask, values, shape=x.shape, dtype=x.dtype)
        values = build.reshape(values, values.shape[1:])
    if isinstance(values, Value) and _is_single(values):
        values = build.reshape(values, ())
    if accumulate:
        values = build.op("+", x, values, shape=x.shape, dtype=x.dtype)
    return build.op("mx.where", wide, values, x, shape=x.shape, dtype=x.dtype)


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


@lowering("aten.index_copy.default", "aten.index_copy_.default")
def index_copy(call: Call, x: Value, dim: int, places: Value, source: Value) -> Value:
    if x.rank == 0 or places.rank == 0:
        return on_one_axis(call, index_copy, x, dim, places, source)
    return _put(call, x, places, call.build.cast(source, x.dtype), axis_of(dim, x.rank))


@lowering("aten.index_fill.int_Scalar", "aten.index_fill_.int_Scalar", "aten.index_fill.int_Tensor")
def index_fill(call: Call, x: Value, dim: int, places: Value, value: Any) -> Value:
    if isinstance(value, Value):
        value = call.build.reshape(value, ())
    if x.rank == 0:
        return on_one_axis(call, index_fill, x, dim, places, value)
    if places.rank == 0:
        places = call.build.reshape(places, (1,))
    axis = axis_of(dim, x.rank)
    wide = spread(call, value, resized(x, axis, places.shape[0]), x.dtype)
    return _put(call, x, places, wide, axis)


@lowering("aten.put.default", "aten.put_.default")
def put(call: Call, x: Value, places: Value, source: Value, accumulate: bool = False) -> Value:
    """Writes into the flattened array."""
    build = call.build
    count = simplify(prod(places.shape))
    flat = build.reshape(x, (simplify(prod(x.shape)),))
    name = "fn.index_add" if accumulate else "fn.index_put"
    source = build.cast(build.reshape(source, (count,)), x.dtype)
    written = build.op(
        name, flat, [build.reshape(places, (count,))], source, shape=flat.shape, dtype=x.dtype
    )
    return build.reshape(written, x.shape)


@lowering("aten.diagonal_scatter.default")
def diagonal_scatter(
    call: Call, x: Value, source: Value, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Value:
    """The diagonal moved to the end, written, and back."""
    build = call.build
    first, second = axis_of(dim1, x.rank), axis_of(dim2, x.rank)
    order = [*(a for a in range(x.rank) if a not in (first, second)), first, second]
    turned = build.transpose(x, order)
    count = source.shape[-1]
    cells = made(call, "mx.arange", count, shape=(count,), dtype="int32")
    rows, columns = (
        cells if shift <= 0 else build.op("+", cells, shift) for shift in (-offset, offset)
    )
    indices = [*[None] * (x.rank - 2), rows, columns]
    source = build.cast(source, x.dtype)
    written = build.op("fn.index_put", turned, indices, source, shape=turned.shape, dtype=x.dtype)
    return build.transpose(written, [order.index(a) for a in range(x.rank)])


@lowering("aten.as_strided_scatter.default")
def as_strided_scatter(
    call: Call, x: Value, source: Value, size: Sequence[Any], stride: Sequence[Any], offset: Any = None
) -> Value:  # fmt: skip
    """Into the flattened array, at the places that the strides name."""
    if not call.is_plain:
        raise refuse(call, "a view of another tensor's memory")
    build, count = call.build, simplify(prod(x.shape))
    cells = made(call, "mx.arange", count, shape=(count,), dtype="int32")
    places = strided(call, cells, size, stride, offset)
    flat = build.reshape(x, (count,))
    source = build.cast(source, x.dtype)
    written = build.op("fn.index_put", flat, [places], source, shape=flat.shape, dtype=x.dtype)
    return build.reshape(written, x.shape)
