"""Sorting and what goes by rank."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from porter.ir import Size, Value
from porter.ir.builder import simplify
from porter.lowering.axes import axis_of, on_one_axis
from porter.lowering.creation import made
from porter.lowering.promotion import is_float
from porter.lowering.registry import Call, lowering


@lowering("aten.sort.default", "aten.sort.stable")
def sort(
    call: Call, x: Value, *args: Any, dim: int = -1, descending: bool = False, **_: Any
) -> list[Value]:
    rest = list(args[1:] if "stable" in call.name else args)
    dim, descending = (rest + [dim, descending][len(rest) :])[:2]
    if x.rank == 0:
        return [x, made(call, "mx.zeros", (), shape=(), dtype=call.outputs[1][1])]
    places = order_along(call, x, dim, descending)
    axis = axis_of(dim, x.rank)
    values = (
        call.build.op("mx.take_along_axis", x, places, shape=x.shape, dtype=x.dtype, axis=axis)
        if descending
        else call.build.op("mx.sort", x, shape=x.shape, dtype=x.dtype, axis=axis)
    )
    return [values, call.build.cast(places, call.outputs[1][1])]


@lowering("aten.argsort.default", "aten.argsort.stable")
def argsort(
    call: Call, x: Value, *args: Any, dim: int = -1, descending: bool = False, **_: Any
) -> Value:
    rest = list(args)
    dim, descending = (rest + [dim, descending][len(rest) :])[:2]
    return call.build.cast(order_along(call, x, dim, descending), call.dtype)


def order_along(call: Call, x: Value, dim: int, descending: bool) -> Value:
    """Where the sorted elements stand, equal ones in their order."""
    if descending and x.dtype in ("bool", "uint8", "uint16", "uint32"):
        x = call.build.cast(x, "int32")
    key = call.build.op("neg", x) if descending else x
    return call.build.op(
        "mx.argsort", key, shape=x.shape, dtype="uint32", axis=axis_of(dim, x.rank)
    )


@lowering("aten.topk.default")
def topk(
    call: Call,
    x: Value,
    k: Size,
    dim: int = -1,
    largest: bool = True,
    is_sorted: bool = True,
    **_: Any,
) -> list[Value]:
    """By argsort: MLX's topk gives the values only, and in ascending order."""
    if x.rank == 0:
        return on_one_axis(call, topk, x, k, 0, largest)
    axis = axis_of(dim, x.rank)
    order = order_along(call, x, dim, largest)
    places = call.build.index(order, (*[slice(None)] * axis, slice(None, k)), call.shape)
    values = call.build.op(
        "mx.take_along_axis", x, places, shape=call.shape, dtype=x.dtype, axis=axis
    )
    return [values, call.build.cast(places, call.outputs[1][1])]


@lowering("aten.kthvalue.default")
def kthvalue(call: Call, x: Value, k: int, dim: int = -1, keepdim: bool = False) -> list[Value]:
    """The k-th smallest along an axis, counted from 1, and where it stands."""
    if x.rank == 0:
        return on_one_axis(call, kthvalue, x, k, 0, True)
    axis = axis_of(dim, x.rank)
    order = order_along(call, x, dim, False)
    shape = tuple(1 if a == axis else size for a, size in enumerate(x.shape))
    key = (*[slice(None)] * axis, slice(k - 1, k))
    places = call.build.index(order, key, shape)
    values = call.build.op("mx.take_along_axis", x, places, shape=shape, dtype=x.dtype, axis=axis)
    places = call.build.cast(places, call.outputs[1][1])
    if keepdim:
        return [values, places]
    return [
        call.build.op(".squeeze", array, axis, shape=call.shape, dtype=array.dtype)
        for array in (values, places)
    ]


@lowering("aten.median.dim")
def median_along(call: Call, x: Value, dim: int = -1, keepdim: bool = False) -> list[Value]:
    """The lower of the two in the middle, where NumPy and MLX take their mean."""
    if x.rank == 0:
        return on_one_axis(call, median_along, x, 0, True)
    size = x.shape[axis_of(dim, x.rank)]
    return kthvalue(call, x, (size + 1) // 2, dim, keepdim)


@lowering("aten.median.default")
def median(call: Call, x: Value) -> Value:
    if x.rank == 0:
        return x
    count = simplify(prod(x.shape))
    flat = call.build.reshape(x, (count,))
    rising = call.build.op("mx.sort", flat, shape=(count,), dtype=x.dtype, axis=0)
    return call.build.index(rising, (simplify((count - 1) // 2),), ())


@lowering("aten.mode.default")
def mode(call: Call, x: Value, dim: int = -1, keepdim: bool = False) -> list[Value]:
    """The most frequent element along an axis (the smallest of those), and where it stands last."""
    if x.rank == 0:
        return on_one_axis(call, mode, x, 0, True)
    shapes = [shape for shape, _ in call.outputs]
    dtypes = [dtype for _, dtype in call.outputs]
    options: dict[str, Any] = {"keepdims": True} if keepdim else {}
    axis = axis_of(dim, x.rank)
    return call.build.node("fn.mode", x, axis, shapes=shapes, dtypes=dtypes, **options).outputs


@lowering("aten.cummax.default", "aten.cummin.default")
def running_extremum(call: Call, x: Value, dim: int) -> list[Value]:
    """The largest (smallest) so far, and where it stands: of equal ones the last."""
    if x.rank == 0:
        return on_one_axis(call, running_extremum, x, 0)
    build, axis = call.build, axis_of(dim, x.rank)
    op = "mx.cummax" if "cummax" in call.name else "mx.cummin"
    values = build.op(op, x, shape=x.shape, dtype=x.dtype, axis=axis)
    size = x.shape[axis]
    cells = made(call, "mx.arange", size, shape=(size,), dtype=call.outputs[1][1])
    cells = build.reshape(cells, (size, *[1] * (x.rank - axis - 1)))
    reached = build.op("==", x, values, shape=x.shape, dtype="bool")
    marks = build.op("mx.where", reached, cells, 0, shape=x.shape, dtype=cells.dtype)
    places = build.op("mx.cummax", marks, shape=x.shape, dtype=cells.dtype, axis=axis)
    return [values, places]


@lowering("aten.nanmedian.default")
def nanmedian(call: Call, x: Value) -> Value:
    flat = call.build.reshape(x, (simplify(prod(x.shape)),)) if x.rank else x
    outputs: list[tuple[tuple[Size, ...], str]] = [((), x.dtype), ((), "int64")]
    return nanmedian_along(replace(call, outputs=outputs), flat, 0)[0]


@lowering("aten.nanmedian.dim")
def nanmedian_along(call: Call, x: Value, dim: int = -1, keepdim: bool = False) -> list[Value]:
    """The lower middle one of those that are no NaN, which sort before the others."""
    if not is_float(x.dtype):
        return median_along(call, x, dim, keepdim)
    if x.rank == 0:
        return on_one_axis(call, nanmedian_along, x, 0, True)
    axis = axis_of(dim, x.rank)
    build = call.build
    order = order_along(call, x, dim, False)
    shape = tuple(1 if a == axis else size for a, size in enumerate(x.shape))
    counted = build.op("==", x, x, shape=x.shape, dtype="bool")
    count = build.op("mx.sum", counted, shape=shape, dtype="int32", axis=axis, keepdims=True)
    below = build.op("mx.maximum", build.op("-", count, 1), 0, shape=shape, dtype="int32")
    middle = build.op("//", below, 2, shape=shape, dtype="int32")
    places = build.op("mx.take_along_axis", order, middle, shape=shape, dtype="uint32", axis=axis)
    values = build.op("mx.take_along_axis", x, places, shape=shape, dtype=x.dtype, axis=axis)
    found = [values, build.cast(places, call.outputs[1][1])]
    if keepdim:
        return found
    return [
        build.op(".squeeze", array, axis, shape=call.shape, dtype=array.dtype) for array in found
    ]
