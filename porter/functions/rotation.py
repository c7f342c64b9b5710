"""Rotations in forms that mx.fast.rope does not take."""

import mlx.core as mx


def rotate(x: mx.array, cos: mx.array, sin: mx.array, traditional: bool = False) -> mx.array:
    """x (..., D) turned by the angles whose cosines and sines are given: halves together, or neighbours if traditional."""
    if traditional:
        turned = mx.stack([-x[..., 1::2], x[..., ::2]], axis=-1).flatten(-2)
    else:
        first, second = mx.split(x, 2, axis=-1)
        turned = mx.concatenate([-second, first], axis=-1)
    return x * cos + turned * sin
