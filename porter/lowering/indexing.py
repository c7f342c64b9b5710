"""Reading by index arrays, and writing into copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from porter.ir import Value
from porter.lowering.axes import axis_of
from porter.lowering.creation import made
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering


@lowering("aten.index.Tensor", "aten._unsafe_index.Tensor")
def index(call: Call, x: Value, indices: Sequence[Value | None]) -> Value:
    """`x[..., i, j]`; the rules for index arrays apart from each other are NumPy's in both."""
    if any(value is not None and value.dtype in ("bool", "uint8") for value in indices):
        raise refuse(call, "a boolean mask as an index gives a size that depends on the data")
    key = [slice(None) if value is None else value for value in indices]
    return call.build.index(x, key, call.shape)


@lowering("aten.index_select.default")
def index_select(call: Call, x: Value, dim: int, places: Value) -> Value:
    if x.rank == 0 or places.rank == 0:
        raise refuse(call, "it selects from a scalar, or by one")
    return call.build.op(
        "mx.take", x, places, shape=call.shape, dtype=x.dtype, axis=axis_of(dim, x.rank)
    )


@lowering("aten.take_along_dim.default")
def take_along_dim(call: Call, x: Value, places: Value, dim: int | None = None) -> Value:
    """The two broadcast along the other axes."""
    build = call.build
    if dim is None:
        return build.op(
            "mx.take", x, build.reshape(places, call.shape), shape=call.shape, dtype=x.dtype
        )
    axis = axis_of(dim, x.rank)
    wide = [
        (*call.shape[:axis], array.shape[axis], *call.shape[axis + 1 :]) for array in (x, places)
    ]
    x, places = (
        array
        if array.shape == shape
        else build.op("mx.broadcast_to", array, shape, shape=shape, dtype=array.dtype)
        for array, shape in zip((x, places), wide, strict=True)
    )
    return build.op("mx.take_along_axis", x, places, shape=call.shape, dtype=x.dtype, axis=axis)


@lowering("aten.gather.default")
def gather(call: Call, x: Value, dim: int, places: Value, *, sparse_grad: bool = False) -> Value:
    """torch's gather may read a part of the other axes: those are sliced first."""
    if x.rank == 0 or places.rank == 0:
        raise refuse(call, "it gathers from a scalar")
    axis = axis_of(dim, x.rank)
    pairs: list[tuple[Any, Any]] = list(zip(x.shape, places.shape, strict=True))
    key = [
        slice(None) if position == axis or have == want or have == 1 else slice(None, want)
        for position, (have, want) in enumerate(pairs)
    ]
    if any(part != slice(None) for part in key):
        shape = [
            have if part == slice(None) else want
            for part, have, want in zip(key, x.shape, places.shape, strict=True)
        ]
        x = call.build.index(x, key, shape)
    return call.build.op(
        "mx.take_along_axis", x, places, shape=call.shape, dtype=x.dtype, axis=axis
    )


@lowering("aten.take.default")
def take(call: Call, x: Value, places: Value) -> Value:
    return call.build.op("mx.take", x, places, shape=call.shape, dtype=x.dtype)


@lowering("aten.one_hot.default")
def one_hot(call: Call, x: Value, classes: int = -1) -> Value:
    """Comparison with the class numbers."""
    count = call.shape[-1]
    if classes == -1:
        raise refuse(call, "the number of classes depends on the data: give num_classes")
    numbers = made(call, "mx.arange", count, shape=(count,), dtype=x.dtype)
    wide = call.build.op("mx.expand_dims", x, x.rank, shape=(*x.shape, 1), dtype=x.dtype)
    equal = call.build.op("==", wide, numbers, shape=call.shape, dtype="bool")
    return call.build.cast(equal, call.dtype)


@lowering("aten.tril.default", "aten.triu.default", "aten.tril_.default", "aten.triu_.default")
def triangle(call: Call, x: Value, diagonal: int = 0) -> Value:
    op = "mx.tril" if "tril" in call.name else "mx.triu"
    extra = {"k": diagonal} if diagonal else {}
    return call.build.op(op, x, shape=x.shape, dtype=x.dtype, **extra)


@lowering("aten.diagonal.default", "aten.diagonal_copy.default")
def diagonal(call: Call, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    axes = axis_of(dim1, x.rank), axis_of(dim2, x.rank)
    return call.build.op("mx.diagonal", x, offset, *axes, shape=call.shape, dtype=x.dtype)
