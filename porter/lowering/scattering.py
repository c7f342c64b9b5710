"""Writes to places that an index array names, the values that meet there added, multiplied or compared."""

from __future__ import annotations

from math import inf
from typing import Any

from porter.ir import Size, Value
from porter.lowering.axes import axis_of, on_one_axis
from porter.lowering.promotion import is_float
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering
from porter.lowering.writing import spread


@lowering("aten.scatter.src", "aten.scatter.value", "aten.scatter_.src", "aten.scatter_.value")
def scatter(call: Call, x: Value, dim: int, places: Value, source: Any) -> Value:
    """Along one axis; by mx.put_along_axis where the index array is as large as x along the others."""
    if x.rank == 0 or places.rank == 0:
        return on_one_axis(call, scatter, x, dim, places, source)
    axis = axis_of(dim, x.rank)
    source = _updates(call, x, places, source)
    if all(a == axis or x.shape[a] == places.shape[a] for a in range(x.rank)):
        return call.build.op(
            "mx.put_along_axis", x, places, source, shape=x.shape, dtype=x.dtype, axis=axis
        )
    return call.build.op("fn.scatter", x, places, source, axis, shape=x.shape, dtype=x.dtype)


def _updates(call: Call, x: Value, places: Value, source: Any) -> Value:
    """As many updates as there are places: a source may hold more."""
    if isinstance(source, Value) and source.rank and source.shape != places.shape:
        pairs = list(zip(source.shape, places.shape, strict=True))
        key = [slice(None) if have == want else slice(None, want) for have, want in pairs]
        source = call.build.index(source, key, places.shape)
    return spread(call, source, places.shape, x.dtype)


@lowering("aten.scatter_add.default", "aten.scatter_add_.default")
def scatter_add(call: Call, x: Value, dim: int, places: Value, source: Value) -> Value:
    if x.rank == 0 or places.rank == 0:
        return on_one_axis(call, scatter_add, x, dim, places, source)
    updates = _updates(call, x, places, source)
    return call.build.op(
        "fn.scatter_add", x, places, updates, axis_of(dim, x.rank), shape=x.shape, dtype=x.dtype
    )


@lowering(
    "aten.scatter.reduce",
    "aten.scatter.value_reduce",
    "aten.scatter_.reduce",
    "aten.scatter_.value_reduce",
)
def scatter_by(call: Call, x: Value, dim: int, places: Value, source: Any, *, reduce: str) -> Value:
    return scatter_reduce(call, x, dim, places, source, "sum" if reduce == "add" else "prod")


@lowering("aten.scatter_reduce.two", "aten.scatter_reduce_.two")
def scatter_reduce(
    call: Call, x: Value, dim: int, places: Value, source: Any, reduce: str, *, include_self: bool = True
) -> Value:  # fmt: skip
    if x.rank == 0 or places.rank == 0:
        return on_one_axis(
            call, scatter_reduce, x, dim, places, source, reduce, include_self=include_self
        )
    updates = _updates(call, x, places, source)
    axis = axis_of(dim, x.rank)
    if reduce == "sum" and include_self:
        return call.build.op(
            "fn.scatter_add", x, places, updates, axis, shape=x.shape, dtype=x.dtype
        )
    indices = call.build.node(
        "fn.along_axis", places, axis, shapes=[_column(places, a, axis) for a in range(places.rank)],
        dtypes=[places.dtype if a == axis else "int32" for a in range(places.rank)],
    ).outputs  # fmt: skip
    return _reduced(call, x, list(indices), updates, reduce, include_self)


def _column(places: Value, axis: int, indexed: int) -> tuple[Size, ...]:
    return (
        places.shape if axis == indexed else (places.shape[axis], *[1] * (places.rank - axis - 1))
    )


_STARTS = {"sum": 0, "mean": 0, "prod": 1, "amax": -inf, "amin": inf}


def _reduced(
    call: Call, x: Value, indices: list[Value | None], updates: Value, reduce: str, include_self: bool
) -> Value:  # fmt: skip
    is_whole = not is_float(x.dtype)
    if (reduce == "mean" and is_whole) or (reduce in ("amax", "amin") and x.dtype == "bool"):
        raise refuse(call, f"{reduce} of {x.dtype}")
    if reduce == "sum":
        zero = spread(call, 0, (), x.dtype)
        x = call.build.op("fn.index_put", x, indices, zero, shape=x.shape, dtype=x.dtype)
        return call.build.op("fn.index_add", x, indices, updates, shape=x.shape, dtype=x.dtype)
    least = _STARTS[reduce]
    if is_whole and reduce != "prod":
        bits = int(x.dtype.lstrip("uint"))
        low, high = (
            (0, 2**bits - 1) if x.dtype[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        )
        least = low if reduce == "amax" else high
    start = {} if include_self else {"start": least}
    return call.build.op(
        "fn.scatter_reduce", x, indices, updates, reduce, shape=x.shape, dtype=x.dtype, **start
    )


@lowering("aten.index_add.default", "aten.index_add_.default")
def index_add(
    call: Call, x: Value, dim: int, places: Value, source: Value, *, alpha: Any = 1
) -> Value:
    if x.rank == 0 or places.rank == 0:
        lifted = source if source.rank or not x.rank else call.build.reshape(source, (1,))
        return on_one_axis(call, index_add, x, dim, places, lifted, alpha=alpha)
    source = call.build.cast(source, x.dtype)
    if alpha != 1:
        source = call.build.op("*", alpha, source)
    indices = [*[None] * axis_of(dim, x.rank), places]
    return call.build.op("fn.index_add", x, indices, source, shape=x.shape, dtype=x.dtype)


@lowering("aten.index_reduce.default")
def index_reduce(
    call: Call, x: Value, dim: int, places: Value, source: Value, reduce: str, *, include_self: bool = True
) -> Value:  # fmt: skip
    if x.rank == 0 or places.rank == 0:
        return on_one_axis(
            call, index_reduce, x, dim, places, source, reduce, include_self=include_self
        )
    indices = [*[None] * axis_of(dim, x.rank), places]
    source = call.build.cast(source, x.dtype)
    return _reduced(call, x, indices, source, reduce, include_self)
