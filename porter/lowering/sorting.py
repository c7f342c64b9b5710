"""Sorting and what goes by rank."""

from __future__ import annotations

from typing import Any

from porter.ir import Size, Value
from porter.lowering.axes import axis_of
from porter.lowering.creation import made
from porter.lowering.refusal import refuse
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
        raise refuse(call, "the top of a scalar")
    axis = axis_of(dim, x.rank)
    order = order_along(call, x, dim, largest)
    places = call.build.index(order, (*[slice(None)] * axis, slice(None, k)), call.shape)
    values = call.build.op(
        "mx.take_along_axis", x, places, shape=call.shape, dtype=x.dtype, axis=axis
    )
    return [values, call.build.cast(places, call.outputs[1][1])]
