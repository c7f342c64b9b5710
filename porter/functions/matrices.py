"""Factorizations and products of matrices. MLX factorizes on the CPU alone."""

import mlx.core as mx


def pseudoinverse(
    x: mx.array, tolerance: float | mx.array | None = None, least: float | mx.array = 0.0
) -> mx.array:
    """The pseudoinverse (..., N, M) of x (..., M, N).

    Singular values up to `least`, or up to `tolerance` times the largest, count as 0; by default that is max(M, N)
    float32 steps.
    """
    u, s, vt = mx.linalg.svd(x, stream=mx.cpu)
    if tolerance is None:
        tolerance = max(x.shape[-2:]) * 2**-23
    cutoff = mx.maximum(least, tolerance * s.max(axis=-1, keepdims=True))
    inverse = mx.where(s > cutoff, 1 / s, 0)
    count = s.shape[-1]
    v = vt[..., :count, :].swapaxes(-1, -2)
    return (v * inverse[..., None, :]) @ u[..., :count].swapaxes(-1, -2)


def permutation_of(pivots: mx.array, size: int) -> mx.array:
    """The order (..., size) of the rows after the swaps of LU pivots (..., K), which count from 1."""
    order = mx.broadcast_to(mx.arange(size), (*pivots.shape[:-1], size))
    for row in range(pivots.shape[-1]):
        other = pivots[..., row : row + 1] - 1
        moved = mx.take_along_axis(order, other, axis=-1)
        order = mx.put_along_axis(order, other, order[..., row : row + 1], axis=-1)
        order = mx.where(mx.arange(size) == row, moved, order)
    return order


def permutation_matrix(order: mx.array) -> mx.array:
    """The matrix P with P @ L @ U = A for rows that a factorization took in this order."""
    return (mx.arange(order.shape[-1])[:, None] == order[..., None, :]).astype(mx.float32)


def unpack_lu(lu: mx.array) -> tuple[mx.array, mx.array]:
    """L and U out of the one matrix (..., M, N) that holds both; L's diagonal is ones."""
    rows, columns = lu.shape[-2:]
    least = min(rows, columns)
    return mx.tril(lu[..., :least], -1) + mx.eye(rows, least), mx.triu(lu[..., :least, :])


def solve_by_lu(lu: mx.array, pivots: mx.array, b: mx.array, adjoint: bool = False) -> mx.array:
    """x with A @ x = b (of A transposed, with `adjoint`) for the packed factors of A (N, N) and its pivots."""
    order = permutation_of(pivots, lu.shape[-1])
    lower, upper = unpack_lu(lu)
    if not adjoint:
        b = mx.take_along_axis(b, order[..., None], axis=-2)
        b = mx.linalg.solve_triangular(lower, b, stream=mx.cpu)
        return mx.linalg.solve_triangular(upper, b, upper=True, stream=mx.cpu)
    b = mx.linalg.solve_triangular(upper.swapaxes(-1, -2), b, stream=mx.cpu)
    b = mx.linalg.solve_triangular(lower.swapaxes(-1, -2), b, upper=True, stream=mx.cpu)
    return mx.take_along_axis(b, mx.argsort(order, axis=-1)[..., None], axis=-2)


def matrix_exponential(x: mx.array) -> mx.array:
    """The exponential of matrices (..., N, N): Taylor's series of x / 2**k, squared k times; NaN for norms over 2**16."""
    norm = mx.abs(x).sum(axis=-2, keepdims=True).max(axis=-1, keepdims=True)
    halvings = mx.ceil(mx.log2(mx.maximum(norm, 1)))
    x = x * 2**-halvings
    result = mx.broadcast_to(mx.eye(x.shape[-1], dtype=x.dtype), x.shape)
    for k in range(14, 0, -1):
        result = mx.eye(x.shape[-1], dtype=x.dtype) + x @ result / k
    for k in range(16):
        result = mx.where(halvings > k, result @ result, result)
    return mx.where(halvings > 16, mx.nan, result)


def householder_product(vectors: mx.array, scales: mx.array) -> mx.array:
    """The first columns of the product of the reflections I - scale * v @ v.T; v is below the diagonal, with 1 on it."""
    rows, columns = vectors.shape[-2:]
    v = mx.tril(vectors, -1) + mx.eye(rows, columns)
    product = mx.broadcast_to(mx.eye(rows, columns, dtype=v.dtype), v.shape)
    for k in reversed(range(scales.shape[-1])):
        column = v[..., k : k + 1]
        part = column @ (column.swapaxes(-1, -2) @ product)
        product = product - scales[..., k : k + 1, None] * part
    return product


def integer_matmul(x: mx.array, y: mx.array) -> mx.array:
    """x @ y of whole numbers, by products and sums: MLX's matmul takes floats alone."""
    if y.ndim == 1:
        return (x * y).sum(axis=-1).astype(x.dtype)
    if x.ndim == 1:
        return (x[:, None] * y).sum(axis=-2).astype(x.dtype)
    return (x[..., :, :, None] * y[..., None, :, :]).sum(axis=-2).astype(x.dtype)
