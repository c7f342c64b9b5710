"""Reading by index arrays, and writing into copies."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import sympy

from porter.ir import Value
from porter.ir.builder import broadcast_shapes, simplify
from porter.lowering.axes import axis_of, on_one_axis
from porter.lowering.creation import made
from porter.lowering.promotion import is_float
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering


@lowering("aten.index.Tensor", "aten._unsafe_index.Tensor")
def index(call: Call, x: Value, indices: Sequence[Value | None]) -> Value:
    """`x[..., i, j]`; the rules for index arrays apart from each other are NumPy's in both."""
    masks = [
        i
        for i, value in enumerate(indices)
        if value is not None and value.dtype in ("bool", "uint8")
    ]
    if masks == [0] and all(value is None for value in indices[1:]):
        mask: Any = call.build.cast(indices[0], "bool")  # type: ignore[arg-type]
        return call.build.op("fn.masked_select", x, mask, shape=call.shape, dtype=x.dtype)
    key = [slice(None) if value is None else value for value in without_masks(call, indices)]
    return call.build.index(x, key, call.shape)


def without_masks(call: Call, indices: Sequence[Value | None]) -> list[Value | None]:
    """Index arrays in the place of boolean masks: where they are True, one array for each of their axes."""
    result: list[Value | None] = []
    count = call.shape[0]
    for value in indices:
        if value is None or value.dtype not in ("bool", "uint8"):
            result.append(value)
            continue
        known = [size for size in call.shape if isinstance(size, sympy.Basic)]
        count = next((size for size in known if str(size).startswith("u")), call.shape[0])
        places = call.build.op("fn.nonzero", value, shape=(count, value.rank), dtype="int64")
        result += [
            call.build.index(places, (slice(None), axis), (count,)) for axis in range(value.rank)
        ]
    return result


@lowering("aten.nonzero.default")
def nonzero(call: Call, x: Value) -> Value:
    """How many there are is a size that depends on the data: the function waits for it."""
    if x.rank == 0:
        raise refuse(call, "a scalar, whose positions have no axes")
    return call.build.op("fn.nonzero", x, shape=call.shape, dtype=call.dtype)


@lowering("aten.nonzero_numpy.default", "aten.where.default")
def nonzero_numpy(call: Call, x: Value) -> list[Value]:
    if x.rank == 0:
        x = call.build.reshape(x, (1,))
    count = call.shape[0]
    places = call.build.op("fn.nonzero", x, shape=(count, x.rank), dtype=call.dtype)
    return [call.build.index(places, (slice(None), axis), (count,)) for axis in range(x.rank)]


@lowering("aten.argwhere.default")
def argwhere(call: Call, x: Value) -> Value:
    return nonzero(call, x)


@lowering("aten.masked_select.default")
def masked_select(call: Call, x: Value, mask: Value) -> Value:
    shape = broadcast_shapes(x.shape, mask.shape)
    if not shape:
        raise refuse(call, "a scalar")
    x, mask = (
        array
        if array.shape == shape
        else call.build.op("mx.broadcast_to", array, shape, shape=shape, dtype=array.dtype)
        for array in (x, mask)
    )
    return call.build.op("fn.masked_select", x, mask, shape=call.shape, dtype=x.dtype)


@lowering("aten._unique2.default", "aten.unique_consecutive.default")
def unique(call: Call, x: Value, *args: Any, **names: Any) -> list[Value]:
    """Sorted in any case; how many there are is a size that depends on the data."""
    name = "unique" if "_unique2" in call.name else "unique_consecutive"
    dim = names.get("dim", args[2] if name == "unique_consecutive" and len(args) > 2 else None)
    if dim is not None and x.rank > 1:
        return _unique_slices(call, x, dim, consecutive=True)
    count = call.shape if call.shape else call.outputs[0][0]
    flat = x if x.rank else call.build.reshape(x, (1,))
    found = call.build.node(
        f"fn.{name}", flat, shapes=[count, flat.shape, count], dtypes=[x.dtype, "int64", "int64"]
    ).outputs
    return found if x.rank else [found[0], call.build.reshape(found[1], ()), found[2]]


@lowering("aten.unique_dim.default", "aten.unique_dim_consecutive.default")
def unique_dim(call: Call, x: Value, dim: int, *_: Any, **__: Any) -> list[Value]:
    return _unique_slices(call, x, dim, consecutive="consecutive" in call.name)


def _unique_slices(call: Call, x: Value, dim: int, consecutive: bool) -> list[Value]:
    axis = axis_of(dim, x.rank)
    count = call.shape[axis]
    options: dict[str, Any] = {"consecutive": True} if consecutive else {}
    return call.build.node(
        "fn.unique_slices", x, axis, shapes=[call.shape, (x.shape[axis],), (count,)],
        dtypes=[x.dtype, "int64", "int64"], **options,
    ).outputs  # fmt: skip


@lowering("aten.repeat_interleave.self_Tensor")
def repeat_by(
    call: Call, x: Value, repeats: Value, dim: int | None = None, *, output_size: Any = None
) -> Value:
    """How many there are is a size that depends on the data, unless the author says it."""
    if dim is None:
        x, dim = call.build.reshape(x, (simplify(prod(x.shape)),)), 0
    options = {} if output_size is None else {"total": output_size}
    return call.build.op(
        "fn.repeat_by", x, repeats, axis_of(dim, x.rank), shape=call.shape, dtype=x.dtype, **options
    )


@lowering("aten.repeat_interleave.Tensor")
def places_repeated(call: Call, repeats: Value, *, output_size: Any = None) -> Value:
    size = repeats.shape[0]
    cells = made(call, "mx.arange", size, shape=(size,), dtype=call.dtype)
    return repeat_by(call, cells, repeats, 0, output_size=output_size)


@lowering("aten.nonzero_static.default")
def nonzero_static(call: Call, x: Value, *, size: Any, fill_value: int = -1) -> Value:
    if x.rank == 0:  # positions in a scalar have no axes
        return made(call, "mx.zeros", (size, 0), shape=(size, 0), dtype="int64")
    options: dict[str, Any] = {} if fill_value == -1 else {"fill": fill_value}
    return call.build.op("fn.nonzero_padded", x, size, shape=call.shape, dtype="int64", **options)


@lowering("aten._unsafe_masked_index.default")
def masked_index(call: Call, x: Value, mask: Value, indices: Sequence[Any], fill: Any) -> Value:
    """Where the mask is false the index may lie outside."""
    read = index(call, x, _inside(call, x, indices))
    return call.build.op("mx.where", mask, read, fill, shape=call.shape, dtype=call.dtype)


def _inside(call: Call, x: Value, indices: Sequence[Value | None]) -> list[Value | None]:
    return [
        i
        if i is None
        else call.build.op("mx.clip", i, -size, simplify(size - 1), shape=i.shape, dtype=i.dtype)
        for i, size in zip(indices, x.shape, strict=False)
    ]


@lowering("aten.bincount.default")
def bincount(call: Call, x: Value, weights: Value | None = None, minlength: int = 0) -> Value:
    options: dict[str, Any] = (
        {} if weights is None else {"weights": call.build.cast(weights, call.dtype)}
    )
    if minlength:
        options["least"] = minlength
    return call.build.op("fn.bincount", x, shape=call.shape, dtype=call.dtype, **options)


@lowering("aten.histc.default")
def histc(
    call: Call, x: Value, bins: int = 100, low: Any = 0, high: Any = 0, **names: Any
) -> Value:
    low, high = names.get("min", low), names.get("max", high)
    if not is_float(x.dtype):
        raise refuse(call, "it is over integers")
    if low == high == 0:
        return call.build.op("fn.own_histogram", x, bins, shape=call.shape, dtype=call.dtype)
    if low == high:
        low, high = low - 1, high + 1
    return call.build.op(
        "fn.histogram", x, bins, float(low), float(high), shape=call.shape, dtype=call.dtype
    )


@lowering(
    "aten.searchsorted.Tensor",
    "aten.searchsorted.Scalar",
    "aten.bucketize.Tensor",
    "aten.bucketize.Scalar",
)
def searchsorted(
    call: Call, first: Any, second: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None,
    sorter: Value | None = None,
) -> Value:  # fmt: skip
    """How many of the sorted numbers are below each value (or not above it, from the right)."""
    boundaries, values = (second, first) if "bucketize" in call.name else (first, second)
    build = call.build
    if sorter is not None:
        boundaries = build.op(
            "mx.take_along_axis", boundaries, sorter, shape=boundaries.shape, dtype=boundaries.dtype,
            axis=boundaries.rank - 1,
        )  # fmt: skip
    count = boundaries.shape[-1]
    if isinstance(values, Value):
        values = build.op(
            "mx.expand_dims", values, values.rank, shape=(*values.shape, 1), dtype=values.dtype
        )
        if boundaries.rank > 1:
            boundaries = build.op(
                "mx.expand_dims", boundaries, boundaries.rank - 1,
                shape=(*boundaries.shape[:-1], 1, count), dtype=boundaries.dtype,
            )  # fmt: skip
    op = "<=" if right or side == "right" else "<"
    below = build.op(op, boundaries, values, shape=(*call.shape, count), dtype="bool")
    total = build.op("mx.sum", below, shape=call.shape, dtype="int32", axis=len(call.shape))
    return build.cast(total, call.dtype)


@lowering("aten.index_select.default")
def index_select(call: Call, x: Value, dim: int, places: Value) -> Value:
    if x.rank == 0 or places.rank == 0:
        return on_one_axis(call, index_select, x, dim, places)
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
        return on_one_axis(call, gather, x, dim, places)
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


@lowering("aten.trace.default")
def trace(call: Call, x: Value) -> Value:
    return call.build.op("mx.trace", call.build.cast(x, call.dtype), shape=(), dtype=call.dtype)


@lowering("aten.diagonal.default", "aten.diagonal_copy.default")
def diagonal(call: Call, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    axes = axis_of(dim1, x.rank), axis_of(dim2, x.rank)
    return call.build.op("mx.diagonal", x, offset, *axes, shape=call.shape, dtype=x.dtype)


@lowering("aten.diag.default")
def diag(call: Call, x: Value, offset: int = 0) -> Value:
    """Of a matrix its diagonal; of a vector the matrix that has it there."""
    if x.rank == 2:
        return diagonal(call, x, offset)
    return call.build.op("mx.diag", x, offset, shape=call.shape, dtype=x.dtype)
