"""Pooling that tells where the largest cells stand, and over windows that share an axis."""

from collections.abc import Sequence
from math import inf, prod

import mlx.core as mx


def max_pool_with_places(x: mx.array, windows: Sequence[mx.array]) -> tuple[mx.array, mx.array]:
    """The largest cell of each window over the last axes of x, and its number among the cells of those axes.

    `windows` has for each of them an array (windows, cells of a window); cells beyond the axis don't count.
    """
    sizes = x.shape[-len(windows) :]
    lowest = -inf if mx.issubdtype(x.dtype, mx.floating) else mx.iinfo(x.dtype).min
    places = mx.broadcast_to(mx.arange(prod(sizes), dtype=mx.int64).reshape(sizes), x.shape)
    for axis in reversed(range(x.ndim - len(sizes), x.ndim)):
        cells = windows[axis - x.ndim]
        inside = (cells >= 0) & (cells < x.shape[axis])
        inside = inside.reshape(*cells.shape, *[1] * (x.ndim - axis - 1))
        cells = mx.clip(cells, 0, x.shape[axis] - 1)
        x = mx.where(inside, mx.take(x, cells, axis=axis), lowest)
        best = mx.argmax(mx.stop_gradient(x), axis=axis + 1, keepdims=True)
        places = mx.take(places, cells, axis=axis)
        places = mx.take_along_axis(places, best, axis=axis + 1).squeeze(axis + 1)
        x = mx.take_along_axis(x, best, axis=axis + 1).squeeze(axis + 1)
    return x, places


def strided_windows(
    count: int, kernel: int, stride: int, padding: int = 0, dilation: int = 1
) -> mx.array:
    """The cells (count, kernel) of windows at even steps."""
    return mx.arange(count)[:, None] * stride + mx.arange(kernel) * dilation - padding


def adaptive_windows(count: int, size: int) -> mx.array:
    """The cells of `count` windows that share an axis of `size` cells; shorter ones are filled with `size`."""
    numbers = mx.arange(count)[:, None]
    cells = numbers * size // count + mx.arange(-(-size // count) + 1)
    return mx.where(cells < ((numbers + 1) * size + count - 1) // count, cells, size)


def average_windows(x: mx.array, count: int, axis: int) -> mx.array:
    """The means of `count` windows that share an axis.

    Window i goes from floor(i * size / count) to ceil((i + 1) * size / count).
    """
    size = x.shape[axis]
    cells, numbers = mx.arange(size), mx.arange(count)[:, None]
    inside = cells >= numbers * size // count
    inside &= cells < ((numbers + 1) * size + count - 1) // count
    weights = (inside / inside.sum(axis=1, keepdims=True)).astype(x.dtype)
    return mx.moveaxis(mx.tensordot(weights, x, [[1], [axis]]), 0, axis)
