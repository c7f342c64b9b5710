"""Sums, means, extrema and what else runs along an axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from porter.ir import Value
from porter.lowering.axes import axes_of, axis_of, on_one_axis
from porter.lowering.promotion import HALVES
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering


def _along(x: Value, dims: int | Sequence[int] | None, keepdim: bool) -> dict[str, Any]:
    """The keyword arguments `axis` and `keepdims`, as far as they are needed."""
    if x.rank == 0:
        return {}
    axes = axes_of(dims, x.rank)
    kwargs: dict[str, Any] = {}
    if len(axes) < x.rank or keepdim:
        kwargs["axis"] = axes[0] if len(axes) == 1 else axes
    if keepdim:
        kwargs["keepdims"] = True
    return kwargs


def _reduce(
    call: Call,
    op: str,
    x: Value,
    dims: Any = None,
    keepdim: bool = False,
    dtype: str | None = None,
    **more: Any,
) -> Value:
    return call.build.op(
        op, x, shape=call.shape, dtype=dtype or call.dtype, **_along(x, dims, keepdim), **more
    )


def _wide(call: Call, x: Value) -> Value:
    """The array in the type of the sum; MLX counts bools in int32 by itself."""
    return call.build.cast(x, call.dtype)


@lowering("aten.sum.default")
def sum_all(call: Call, x: Value, dtype: str | None = None) -> Value:
    return sum_along(call, x, None, False)


@lowering("aten.sum.dim_IntList")
def sum_along(
    call: Call, x: Value, dims: Any, keepdim: bool = False, dtype: str | None = None
) -> Value:
    if x.rank == 0:
        return _wide(call, x)
    if x.dtype == "bool":
        return call.build.cast(_reduce(call, "mx.sum", x, dims, keepdim, "int32"), call.dtype)
    return _reduce(call, "mx.sum", _wide(call, x), dims, keepdim)


@lowering("aten.mean.default")
def mean_all(call: Call, x: Value, dtype: str | None = None) -> Value:
    return mean_along(call, x, None, False)


@lowering("aten.mean.dim")
def mean_along(
    call: Call, x: Value, dims: Any, keepdim: bool = False, dtype: str | None = None
) -> Value:
    return (
        _wide(call, x) if x.rank == 0 else _reduce(call, "mx.mean", _wide(call, x), dims, keepdim)
    )


@lowering("aten.prod.default")
def prod_all(call: Call, x: Value, dtype: str | None = None) -> Value:
    return _reduce(call, "mx.prod", _wide(call, x))


@lowering("aten.prod.dim_int")
def prod_along(
    call: Call, x: Value, dim: int, keepdim: bool = False, dtype: str | None = None
) -> Value:
    return _wide(call, x) if x.rank == 0 else _reduce(call, "mx.prod", _wide(call, x), dim, keepdim)


def _extremum(op: str) -> Callable[..., Value]:
    def lower(call: Call, x: Value, dims: Any = None, keepdim: bool = False) -> Value:
        return (
            call.build.cast(x, call.dtype) if x.rank == 0 else _reduce(call, op, x, dims, keepdim)
        )

    return lower


for _name, _op in {
    "amax.default": "mx.max",
    "amin.default": "mx.min",
    "max.default": "mx.max",
    "min.default": "mx.min",
}.items():
    lowering(f"aten.{_name}")(_extremum(_op))
for _name, _op in {"any": "mx.any", "all": "mx.all"}.items():
    lowering(f"aten.{_name}.default", f"aten.{_name}.dim", f"aten.{_name}.dims")(_extremum(_op))


@lowering("aten.aminmax.default")
def aminmax(call: Call, x: Value, *, dim: int | None = None, keepdim: bool = False) -> list[Value]:
    return [_extremum(op)(call, x, dim, keepdim) for op in ("mx.min", "mx.max")]


@lowering("aten.logsumexp.default", "aten.special_logsumexp.default")
def logsumexp(call: Call, x: Value, dims: Any, keepdim: bool = False) -> Value:
    return _reduce(call, "mx.logsumexp", _wide(call, x), dims, keepdim)


@lowering("aten.argmax.default", "aten.argmin.default")
def arg_extremum(call: Call, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    op = "mx.argmax" if "argmax" in call.name else "mx.argmin"
    return call.build.cast(_reduce(call, op, x, dim, keepdim, "uint32"), call.dtype)


@lowering("aten.max.dim", "aten.min.dim")
def extremum_with_index(call: Call, x: Value, dim: int, keepdim: bool = False) -> list[Value]:
    """Values and where they stand; of equal ones the first."""
    kind = "max" if "max" in call.name else "min"
    values = _extremum(f"mx.{kind}")(call, x, dim, keepdim)
    places = _reduce(call, f"mx.arg{kind}", x, dim, keepdim, "uint32")
    return [values, call.build.cast(places, call.outputs[1][1])]


@lowering(
    "aten.softmax.int",
    "aten._softmax.default",
    "aten.special_softmax.int",
)
def softmax(call: Call, x: Value, dim: int, dtype: Any = None) -> Value:
    """torch accumulates in float32; MLX does so for half types only when asked to be precise."""
    x = _wide(call, x)
    if x.rank == 0:
        return call.build.op("mx.ones_like", x)
    precise = {"precise": True} if x.dtype in HALVES else {}
    return call.build.op(
        "mx.softmax", x, shape=call.shape, dtype=call.dtype, axis=axis_of(dim, x.rank), **precise
    )


@lowering("aten._safe_softmax.default")
def safe_softmax(call: Call, x: Value, dim: int, dtype: Any = None) -> Value:
    """0 where all of a row is -inf."""
    result = softmax(call, x, dim)
    if x.rank == 0:
        return result
    axis = axis_of(dim, x.rank)
    shape = tuple(1 if a == axis else size for a, size in enumerate(x.shape))
    largest = call.build.op("mx.max", x, shape=shape, dtype=x.dtype, axis=axis, keepdims=True)
    masked = call.build.op("==", largest, -inf, shape=shape, dtype="bool")
    return call.build.op("mx.where", masked, 0.0, result, shape=call.shape, dtype=call.dtype)


@lowering("aten.log_softmax.int", "aten._log_softmax.default", "aten.special_log_softmax.int")
def log_softmax(call: Call, x: Value, dim: int, dtype: Any = None) -> Value:
    x = _wide(call, x)
    if x.rank == 0:
        return call.build.op("mx.zeros_like", x)
    return call.build.op(
        "nn.log_softmax", x, shape=call.shape, dtype=call.dtype, axis=axis_of(dim, x.rank)
    )


@lowering("aten.softmin.int")
def softmin(call: Call, x: Value, dim: int, dtype: Any = None) -> Value:
    return softmax(call, call.build.op("neg", _wide(call, x)), dim)


@lowering("aten.var.default", "aten.std.default")
def var_all(call: Call, x: Value, unbiased: bool = True) -> Value:
    return _spread(call, x, None, int(unbiased), False)


@lowering("aten.var.dim", "aten.std.dim")
def var_along(
    call: Call, x: Value, dims: Any, unbiased: bool = True, keepdim: bool = False
) -> Value:
    return _spread(call, x, dims, int(unbiased), keepdim)


@lowering("aten.var.correction", "aten.std.correction")
def var_corrected(
    call: Call,
    x: Value,
    dims: Any = None,
    *,
    correction: Any = None,
    keepdim: bool = False,
    **names: Any,
) -> Value:
    return _spread(
        call, x, names.get("dim", dims), 1 if correction is None else correction, keepdim
    )


def _spread(call: Call, x: Value, dims: Any, ddof: Any, keepdim: bool) -> Value:
    if ddof != int(ddof):
        raise refuse(call, "a correction that is not a whole number")
    more: dict[str, Any] = {"ddof": int(ddof)} if ddof else {}
    return _reduce(call, "mx.std" if "std" in call.name else "mx.var", x, dims, keepdim, **more)


@lowering("aten.var_mean.correction", "aten.std_mean.correction")
def var_mean(
    call: Call,
    x: Value,
    dims: Any = None,
    *,
    correction: Any = None,
    keepdim: bool = False,
    **names: Any,
) -> list[Value]:
    dims = names.get("dim", dims)
    return [
        var_corrected(call, x, dims, correction=correction, keepdim=keepdim),
        mean_along(replace(call, outputs=call.outputs[1:]), x, dims, keepdim),
    ]


@lowering("aten.var_mean.dim", "aten.std_mean.dim")
def var_mean_along(
    call: Call, x: Value, dims: Any, unbiased: bool = True, keepdim: bool = False
) -> list[Value]:
    return var_mean(call, x, dims, correction=int(unbiased), keepdim=keepdim)


@lowering("aten.var_mean.default", "aten.std_mean.default")
def var_mean_all(call: Call, x: Value, unbiased: bool = True) -> list[Value]:
    return var_mean(call, x, None, correction=int(unbiased))


@lowering("aten.cumsum.default", "aten.cumsum_.default", "aten.cumprod.default")
def cumulative(call: Call, x: Value, dim: int, dtype: str | None = None) -> Value:
    """In float32 for half types: MLX adds them up in their own precision."""
    if x.rank == 0:
        return _wide(call, x)
    op = "mx.cumsum" if "cumsum" in call.name else "mx.cumprod"
    wide = call.build.cast(x, "float32" if call.dtype in HALVES else call.dtype)
    result = call.build.op(op, wide, shape=call.shape, dtype=wide.dtype, axis=axis_of(dim, x.rank))
    return call.build.cast(result, call.dtype)


@lowering("aten.logcumsumexp.default")
def logcumsumexp(call: Call, x: Value, dim: int) -> Value:
    if x.rank == 0:
        return x
    return call.build.op(
        "mx.logcumsumexp", x, shape=x.shape, dtype=x.dtype, axis=axis_of(dim, x.rank)
    )


@lowering(
    "aten.linalg_vector_norm.default",
    "aten.norm.ScalarOpt_dim",
    "aten.norm.Scalar",
    "aten.frobenius_norm.dim",
)
def vector_norm(
    call: Call, x: Value, order: Any = 2, dims: Any = None, keepdim: bool = False, dtype: Any = None
) -> Value:
    order = 2 if order is None else order
    if x.dtype == "complex64":  # by magnitudes
        x = call.build.op("mx.abs", x, shape=x.shape, dtype="float32")
    x = _wide(call, x)
    if x.rank == 0:
        return on_one_axis(call, vector_norm, x, order, 0, True)
    size = x if order == 2 else call.build.op("mx.abs", x)
    if order == 2:
        return call.build.op(
            "mx.sqrt", _reduce(call, "mx.sum", call.build.op("mx.square", x), dims, keepdim)
        )
    if order == 1:
        return _reduce(call, "mx.sum", size, dims, keepdim)
    if order in (float("inf"), float("-inf")):
        return _reduce(call, "mx.max" if order > 0 else "mx.min", size, dims, keepdim)
    if order == 0:
        nonzero = call.build.op("!=", x, 0, shape=x.shape, dtype="bool")
        return call.build.cast(_reduce(call, "mx.sum", nonzero, dims, keepdim, "int32"), call.dtype)
    total = _reduce(call, "mx.sum", call.build.op("**", size, order), dims, keepdim)
    return call.build.op("**", total, 1.0 / order)


@lowering("aten.count_nonzero.default", "aten.count_nonzero.dim_IntList")
def count_nonzero(call: Call, x: Value, dims: Any = None) -> Value:
    nonzero = call.build.op("!=", x, 0, shape=x.shape, dtype="bool")
    if x.rank == 0:
        return call.build.cast(nonzero, call.dtype)
    return call.build.cast(_reduce(call, "mx.sum", nonzero, dims, dtype="int32"), call.dtype)


@lowering("aten.diff.default")
def diff(
    call: Call,
    x: Value,
    n: int = 1,
    dim: int = -1,
    prepend: Value | None = None,
    append: Value | None = None,
) -> Value:
    """Differences of neighbours along an axis; of booleans, whether they differ."""
    axis = axis_of(dim, x.rank)
    build = call.build
    ends = [part for part in (prepend, x, append) if part is not None]
    if len(ends) > 1:
        size = sum(part.shape[axis] for part in ends)
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        x = build.op("mx.concatenate", ends, shape=shape, dtype=x.dtype, axis=axis)
    for _ in range(n):
        shape = (*x.shape[:axis], x.shape[axis] - 1, *x.shape[axis + 1 :])
        before = (slice(None),) * axis
        later = build.index(x, (*before, slice(1, None)), shape)
        earlier = build.index(x, (*before, slice(None, -1)), shape)
        x = build.op("!=" if x.dtype == "bool" else "-", later, earlier, shape=shape, dtype=x.dtype)
    return x
