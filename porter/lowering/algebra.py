"""Matrix factorizations and what is made of them. MLX computes them on the CPU alone."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from typing import Any

from porter.ir import Value
from porter.ir.builder import broadcast_shapes
from porter.lowering.axes import axis_of
from porter.lowering.creation import made
from porter.lowering.reductions import vector_norm
from porter.lowering.refusal import absent, refuse
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


@lowering(
    "aten.linalg_solve.default", "aten.linalg_solve_ex.default", "aten._linalg_solve_ex.default"
)
def solve(call: Call, a: Value, b: Value, *, left: bool = True, **_: Any) -> Any:
    _only_floats(call, a, b)
    if not left:  # x @ a = b is the transposed system
        if b.rank == 1:
            raise refuse(call, "left=False with a vector")
        shape, dtype = call.outputs[0]
        turned = replace(
            call, outputs=[((*shape[:-2], shape[-1], shape[-2]), dtype), *call.outputs[1:]]
        )
        result = solve(turned, _turned(call, a), _turned(call, b))
        result, *errors = result if isinstance(result, list) else [result]
        return [_turned(call, result), *errors] if errors else _turned(call, result)
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
    if "_ex" not in call.name:
        return result
    inner = [absent(call, place, "the factorization") for place in range(1, len(call.outputs) - 1)]
    return [result, *inner, _no_errors(call)]


@lowering("aten.linalg_solve_triangular.default")
def solve_triangular(
    call: Call, a: Value, b: Value, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Value:
    """From the right by the transposed system; a diagonal of ones is written over what stands there."""
    _only_floats(call, a, b)
    build = call.build
    if unitriangular:
        size = a.shape[-1]
        part = build.op(
            "mx.triu" if upper else "mx.tril", a, 1 if upper else -1, shape=a.shape, dtype=a.dtype
        )
        ones = made(call, "mx.eye", size, shape=(size, size), dtype=a.dtype)
        a = build.op("+", part, ones, shape=a.shape, dtype=a.dtype)
    if not left:
        a, b, upper = _turned(call, a), _turned(call, b), not upper
    batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = _in_batch(call, a, batch), _in_batch(call, b, batch)
    options: dict[str, Any] = {"upper": True} if upper else {}
    result = build.op(
        "mx.linalg.solve_triangular", a, b, shape=b.shape, dtype=call.dtype, **options, **_CPU
    )
    return result if left else _turned(call, result)


@lowering("aten.triangular_solve.default")
def triangular_solve(
    call: Call, b: Value, a: Value, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> list[Value]:  # fmt: skip
    """The solution and a copy of the matrix."""
    matrix = _turned(call, a) if transpose else a
    x = solve_triangular(call, matrix, b, upper=upper != transpose, unitriangular=unitriangular)
    return [x, _in_batch(call, a, call.outputs[1][0][:-2])]


def _turned(call: Call, x: Value) -> Value:
    return call.build.transpose(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


def _in_batch(call: Call, x: Value, batch: tuple[Any, ...]) -> Value:
    shape = (*batch, *x.shape[-2:])
    if x.shape == shape:
        return x
    return call.build.op("mx.broadcast_to", x, shape, shape=shape, dtype=x.dtype)


@lowering(
    "aten.linalg_lu_factor_ex.default", "aten.linalg_lu_factor.default", "aten._lu_with_info.default"
)  # fmt: skip
def lu_factor(call: Call, x: Value, pivot: bool = True, *_: Any, **__: Any) -> list[Value]:
    """The packed factors, the pivots (torch's count from 1), and no errors."""
    _only_floats(call, x)
    if not pivot:
        raise refuse(call, "a factorization without pivots")
    build = call.build
    shapes = [shape for shape, _ in call.outputs[:2]]
    lu, pivots = build.node(
        "mx.linalg.lu_factor", x, shapes=shapes, dtypes=["float32", "uint32"], **_CPU
    ).outputs
    pivots = build.op("+", build.cast(pivots, "int32"), 1, shape=pivots.shape, dtype="int32")
    return [lu, pivots, *([_no_errors(call)] if len(call.outputs) > 2 else [])]


@lowering("aten.linalg_lu.default")
def lu(call: Call, x: Value, *, pivot: bool = True) -> list[Value]:
    """P, L and U with P @ L @ U = x; MLX gives the order of L's rows."""
    _only_floats(call, x)
    if not pivot:
        raise refuse(call, "a factorization without pivots")
    build = call.build
    p_shape, l_shape, u_shape = (shape for shape, _ in call.outputs)
    order, lower, upper = build.node(
        "mx.linalg.lu", x, shapes=[p_shape[:-1], l_shape, u_shape], dtypes=["uint32", "float32", "float32"], **_CPU
    ).outputs  # fmt: skip
    cells = made(call, "mx.arange", p_shape[-1], shape=p_shape[-1:], dtype="uint32")
    rows = build.op("mx.expand_dims", order, order.rank, shape=(*order.shape, 1), dtype="uint32")
    matrix = build.op("==", rows, cells, shape=p_shape, dtype="bool")
    return [build.cast(matrix, "float32"), lower, upper]


@lowering("aten.lu_unpack.default")
def lu_unpack(
    call: Call, packed: Value, pivots: Value, unpack_data: bool = True, unpack_pivots: bool = True
) -> list[Value]:
    _only_floats(call, packed)
    build = call.build
    p_shape, l_shape, u_shape = (shape for shape, _ in call.outputs)
    nothing = made(call, "mx.zeros", (0,), shape=(0,), dtype="float32")
    matrix, lower, upper = nothing, nothing, nothing
    if unpack_pivots:
        rows = packed.shape[-2]
        order = build.op("fn.permutation_of", pivots, rows, shape=p_shape[:-1], dtype="int32")
        matrix = build.op("fn.permutation_matrix", order, shape=p_shape, dtype="float32")
    if unpack_data:
        lower, upper = build.node(
            "fn.unpack_lu", packed, shapes=[l_shape, u_shape], dtypes=["float32"] * 2
        ).outputs
    return [matrix, lower, upper]


@lowering("aten.linalg_lu_solve.default", "aten.lu_solve.default")
def lu_solve(call: Call, *args: Any, left: bool = True, adjoint: bool = False) -> Value:
    """The older op has the right side first."""
    packed, pivots, b = args if "linalg" in call.name else (*args[1:], args[0])
    _only_floats(call, packed, b)
    if not left:  # x @ A = b is the transposed system
        b, adjoint = _turned(call, b), not adjoint
    packed, b = _in_batch(call, packed, call.shape[:-2]), _in_batch(call, b, call.shape[:-2])
    if pivots.shape[:-1] != call.shape[:-2]:
        shape = (*call.shape[:-2], pivots.shape[-1])
        pivots = call.build.op("mx.broadcast_to", pivots, shape, shape=shape, dtype=pivots.dtype)
    options: dict[str, Any] = {"adjoint": True} if adjoint else {}
    x = call.build.op("fn.solve_by_lu", packed, pivots, b, shape=b.shape, dtype=b.dtype, **options)
    return x if left else _turned(call, x)


@lowering("aten.linalg_matrix_exp.default", "aten.matrix_exp.default")
def matrix_exp(call: Call, x: Value) -> Value:
    _only_floats(call, x)
    return _one(call, "fn.matrix_exponential", x)


@lowering("aten.linalg_householder_product.default", "aten.orgqr.default")
def householder_product(call: Call, vectors: Value, scales: Value) -> Value:
    _only_floats(call, vectors, scales)
    return _one(call, "fn.householder_product", vectors, scales)


@lowering("aten.linalg_det.default", "aten.det.default")
def determinant(call: Call, x: Value) -> Value:
    _only_floats(call, x)
    return _one(call, "mx.linalg.det", x, **_CPU)


@lowering(
    "aten.linalg_slogdet.default", "aten.slogdet.default", "aten._linalg_slogdet.default", "aten.logdet.default"
)  # fmt: skip
def log_determinant(call: Call, x: Value) -> Any:
    """Sign and logarithm; torch's inner op gives its factorization besides, which nobody reads."""
    _only_floats(call, x)
    shapes = [x.shape[:-2]] * 2
    found = call.build.node(
        "mx.linalg.slogdet", x, shapes=shapes, dtypes=[x.dtype] * 2, **_CPU
    ).outputs
    if call.name == "aten.logdet.default":
        sign, size = found
        negative = call.build.op("<", sign, 0, shape=sign.shape, dtype="bool")
        return _one(call, "mx.where", negative, nan, size)
    return [*found, *(absent(call, k, "the factorization") for k in range(2, len(call.outputs)))]


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


@lowering("aten.pdist.default", "aten._pdist_forward.default")
def pdist(call: Call, x: Value, p: float = 2.0) -> Value:
    """The norm of the difference of every two rows."""
    build, shape = call.build, call.shape
    places = build.node("fn.pairs", x.shape[0], shapes=[shape] * 2, dtypes=["int32"] * 2).outputs
    wide = (*shape, x.shape[-1])
    first, second = (build.index(x, (place,), wide) for place in places)
    return vector_norm(call, build.op("-", first, second, shape=wide, dtype=x.dtype), p, -1)


@lowering("aten.pinverse.default", "aten.linalg_pinv.default")
def pinverse(call: Call, x: Value, rcond: float = 1e-15, hermitian: bool = False) -> Value:
    return _pseudoinverse(call, x, hermitian, rcond)


@lowering(
    "aten.linalg_pinv.atol_rtol_tensor", "aten.linalg_pinv.atol_rtol_float", "aten.linalg_pinv.rcond_tensor"
)  # fmt: skip
def pinv(
    call: Call, x: Value, *rcond: Any, atol: Any = None, rtol: Any = None, hermitian: bool = False
) -> Value:
    """Singular values up to the larger of the two tolerances count as 0."""
    if rcond:
        rtol, hermitian = rcond[0], rcond[1] if len(rcond) > 1 else hermitian
    if atol is not None and rtol is None:
        rtol = 0.0
    column = [
        call.build.op("mx.expand_dims", t, t.rank, shape=(*t.shape, 1), dtype=t.dtype)
        if isinstance(t, Value) and t.rank
        else t
        for t in (rtol, atol)
    ]
    return _pseudoinverse(call, x, hermitian, *column)


def _pseudoinverse(call: Call, x: Value, hermitian: bool, rtol: Any, atol: Any = None) -> Value:
    _only_floats(call, x)
    if hermitian:  # torch reads the lower triangle
        low = call.build.op("mx.tril", x, -1, shape=x.shape, dtype=x.dtype)
        whole = call.build.op("mx.tril", x, shape=x.shape, dtype=x.dtype)
        x = call.build.op("+", whole, _turned(call, low), shape=x.shape, dtype=x.dtype)
    options = {
        key: value for key, value in (("tolerance", rtol), ("least", atol)) if value is not None
    }
    return _one(call, "fn.pseudoinverse", x, **options)


@lowering("aten._linalg_check_errors.default")
def check_errors(call: Call, *_: Any, **__: Any) -> None:
    """MLX raises by itself where a matrix has no inverse."""


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
