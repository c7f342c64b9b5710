"""Matrices by their singular values. MLX factorizes on the CPU alone."""

import mlx.core as mx


def pseudoinverse(x: mx.array, tolerance: float | None = None) -> mx.array:
    """The pseudoinverse (..., N, M) of x (..., M, N), without singular values below `tolerance` times the largest.

    By default that is max(M, N) float32 steps.
    """
    u, s, vt = mx.linalg.svd(x, stream=mx.cpu)
    if tolerance is None:
        tolerance = max(x.shape[-2:]) * 2**-23
    least = tolerance * s.max(axis=-1, keepdims=True)
    inverse = mx.where(s > least, 1 / s, 0)
    count = s.shape[-1]
    v = vt[..., :count, :].swapaxes(-1, -2)
    return (v * inverse[..., None, :]) @ u[..., :count].swapaxes(-1, -2)
