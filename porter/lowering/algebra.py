"""Matrix factorizations and what is made of them. MLX computes them on the CPU alone."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

from porter.ir import Value
from porter.lowering.axes import axis_of
from porter.lowering.reductions import vector_norm
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering

_CPU: dict[str, Any] = {"stream": "mx.cpu"}


def _one(call: Call, op: str, *args: Any, **options: Any) -> Value:
    return call.build.op(op, *args, shape=call.shape, dtype=call.dtype, **options)


def _several(call: Call, op: str, *args: Any, **options: Any) -> list[Value]:
    shapes, dtypes = zip(*call.outputs, strict=True)
    return call.build.node(op, *args, shapes=shapes, dtypes=dtypes, **options).outputs


def _only_floats(call: Call, *arrays: Value) -> None:
    if any(array.dtype != "float32" for array in arrays):
        raise refuse(call, "MLX factorizes matrices of float32 only")


@lowering("aten.linalg_inv.default", "aten.inverse.default", "aten.linalg_inv_ex.default")
def inverse(call: Call, x: Value, *_: Any, **__: Any) -> Any:
    _only_floats(call, x)
    result = call.build.op("mx.linalg.inv", x, shape=x.shape, dtype=x.dtype, **_CPU)
    return [result, _no_errors(call)] if "_ex" in call.name else result


def _no_errors(call: Call) -> Value:
    shape, dtype = call.outputs[-1]
    return call.build.node(
        "mx.zeros", tuple(shape), shapes=[shape], dtypes=[dtype], dtype=dtype
    ).output


@lowering(
    "aten.linalg_cholesky.default", "aten.cholesky.default", "aten.linalg_cholesky_ex.default"
)
def cholesky(call: Call, x: Value, upper: bool = False, **names: Any) -> Any:
    _only_floats(call, x)
    options: dict[str, Any] = {"upper": True} if names.get("upper", upper) else {}
    result = call.build.op("mx.linalg.cholesky", x, shape=x.shape, dtype=x.dtype, **options, **_CPU)
    return [result, _no_errors(call)] if "_ex" in call.name else result


@lowering("aten.linalg_qr.default")
def qr(call: Call, x: Value, mode: str = "reduced") -> list[Value]:
    _only_floats(call, x)
    if mode != "reduced":
        raise refuse(call, f"mode={mode!r}")
    return _several(call, "mx.linalg.qr", x, **_CPU)


@lowering("aten.linalg_svd.default", "aten._linalg_svd.default")
def svd(call: Call, x: Value, full_matrices: bool = True, *_: Any, **__: Any) -> list[Value]:
    """MLX gives the full matrices; the narrow ones are their first columns and rows."""
    _only_floats(call, x)
    *lead, rows, columns = x.shape
    least = call.outputs[1][0][-1]
    full = [(*lead, rows, rows), (*lead, least), (*lead, columns, columns)]
    u, s, v = call.build.node("mx.linalg.svd", x, shapes=full, dtypes=[x.dtype] * 3, **_CPU).outputs
    if not full_matrices:
        u = call.build.index(u, (Ellipsis, slice(None, least)), (*lead, rows, least))
        v = call.build.index(
            v, (Ellipsis, slice(None, least), slice(None)), (*lead, least, columns)
        )
    return [u, s, v]


@lowering("aten.linalg_svdvals.default")
def svdvals(call: Call, x: Value, **_: Any) -> Value:
    return svd(replace(call, outputs=call.outputs * 3), x)[1]


@lowering("aten.linalg_eigh.default", "aten._linalg_eigh.default")
def eigh(call: Call, x: Value, triangle: str = "L", *_: Any) -> list[Value]:
    _only_floats(call, x)
    options: dict[str, Any] = {} if triangle == "L" else {"UPLO": triangle}
    return _several(call, "mx.linalg.eigh", x, **options, **_CPU)


@lowering("aten.linalg_eigvalsh.default")
def eigvalsh(call: Call, x: Value, triangle: str = "L") -> Value:
    _only_floats(call, x)
    options: dict[str, Any] = {} if triangle == "L" else {"UPLO": triangle}
    return _one(call, "mx.linalg.eigvalsh", x, **options, **_CPU)


@lowering("aten.linalg_solve.default", "aten.linalg_solve_ex.default")
def solve(call: Call, a: Value, b: Value, *, left: bool = True, **_: Any) -> Any:
    _only_floats(call, a, b)
    if not left:
        raise refuse(call, "left=False")
    build = call.build
    shape = call.outputs[0][0]
    is_vector = b.rank == 1 or (b.rank == a.rank - 1 and b.shape == a.shape[:-1])
    if is_vector:
        b = build.op("mx.expand_dims", b, b.rank, shape=(*b.shape, 1), dtype=b.dtype)
    batch = shape[:-1] if is_vector else shape[:-2]
    a, b = (
        array
        if array.shape[:-2] == batch
        else build.op(
            "mx.broadcast_to", array, (*batch, *array.shape[-2:]), shape=(*batch, *array.shape[-2:]), dtype=array.dtype
        )
        for array in (a, b)
    )  # fmt: skip
    wide = (*batch, *b.shape[-2:])
    result = build.op("mx.linalg.solve", a, b, shape=wide, dtype=a.dtype, **_CPU)
    if is_vector:
        result = build.op(".squeeze", result, len(wide) - 1, shape=shape, dtype=result.dtype)
    return [result, _no_errors(call)] if "_ex" in call.name else result


@lowering("aten.linalg_solve_triangular.default")
def solve_triangular(
    call: Call, a: Value, b: Value, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Value:
    _only_floats(call, a, b)
    if not left or unitriangular or a.shape[:-2] != b.shape[:-2]:
        raise refuse(call, "left=False, unitriangular, or batches of different shapes")
    options: dict[str, Any] = {"upper": True} if upper else {}
    return _one(call, "mx.linalg.solve_triangular", a, b, **options, **_CPU)


@lowering("aten.linalg_det.default", "aten.det.default")
def determinant(call: Call, x: Value) -> Value:
    _only_floats(call, x)
    return _one(call, "mx.linalg.det", x, **_CPU)


@lowering("aten.linalg_slogdet.default", "aten.slogdet.default")
def log_determinant(call: Call, x: Value) -> list[Value]:
    _only_floats(call, x)
    return _several(call, "mx.linalg.slogdet", x, **_CPU)


@lowering("aten.linalg_cross.default", "aten.cross.default")
def cross(call: Call, x: Value, y: Value, dim: int | None = None, **names: Any) -> Value:
    dim = names.get("dim", dim)
    if dim is None:
        dim = (
            -1
            if "linalg" in call.name
            else next(a for a, size in enumerate(call.shape) if size == 3)
        )
    x, y = (
        array
        if array.shape == call.shape
        else call.build.op(
            "mx.broadcast_to", array, call.shape, shape=call.shape, dtype=array.dtype
        )
        for array in (x, y)
    )
    return _one(call, "mx.linalg.cross", x, y, axis=axis_of(dim, len(call.shape)))


@lowering("aten.cdist.default", "aten._cdist_forward.default")
def cdist(call: Call, x: Value, y: Value, p: float = 2.0, *_: Any) -> Value:
    """The norm of every difference of a row of x and one of y."""
    build = call.build
    rows = build.op(
        "mx.expand_dims", x, x.rank - 1, shape=(*x.shape[:-1], 1, x.shape[-1]), dtype=x.dtype
    )
    columns = build.op(
        "mx.expand_dims", y, y.rank - 2, shape=(*y.shape[:-2], 1, *y.shape[-2:]), dtype=y.dtype
    )
    gap = build.op("-", rows, columns, shape=(*call.shape, x.shape[-1]), dtype=call.dtype)
    return vector_norm(call, gap, p, -1)


@lowering("aten.pinverse.default", "aten.linalg_pinv.default")
def pinverse(call: Call, x: Value, rcond: float = 1e-15, hermitian: bool = False) -> Value:
    _only_floats(call, x)
    if hermitian:
        raise refuse(call, "hermitian=True: only one triangle of the matrix is read")
    return _one(call, "fn.pseudoinverse", x, rcond)


@lowering("aten.linalg_pinv.atol_rtol_tensor", "aten.linalg_pinv.atol_rtol_float")
def pinv(
    call: Call, x: Value, *, atol: Any = None, rtol: Any = None, hermitian: bool = False
) -> Value:
    _only_floats(call, x)
    if hermitian or atol is not None or rtol is not None:
        raise refuse(call, "a tolerance of its own, or hermitian=True")
    return _one(call, "fn.pseudoinverse", x)


@lowering("aten.linalg_matrix_norm.default")
def matrix_norm(
    call: Call, x: Value, order: Any, dims: Any = (-2, -1), keepdim: bool = False, **_: Any
) -> Value:
    """By the largest (smallest) sum of a row or column."""
    if order not in (1, -1, inf, -inf):
        raise refuse(call, f"order {order}")
    rows, columns = (axis_of(dim, x.rank) for dim in dims)
    summed, kept = (rows, columns) if abs(order) == 1 else (columns, rows)
    build = call.build
    shape = tuple(1 if axis == summed else size for axis, size in enumerate(x.shape))
    total = build.op(
        "mx.sum", build.op("mx.abs", x), shape=shape, dtype=call.dtype, axis=summed, keepdims=True
    )
    op = "mx.max" if order > 0 else "mx.min"
    axes = tuple(sorted((summed, kept)))
    options: dict[str, Any] = {"keepdims": True} if keepdim else {}
    return _one(call, op, total, axis=axes, **options)
