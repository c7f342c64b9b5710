"""Adaptive pooling: to one cell a reduction, to a divisor a layer, else a function over windows."""

from __future__ import annotations

from typing import Any

from porter.ir import Size, Value
from porter.ir.builder import simplify
from porter.lowering.axes import channels_last
from porter.lowering.pooling import batched, finish, largest, pooled
from porter.lowering.refusal import absent
from porter.lowering.registry import Call, lowering


def _register(count: int) -> None:
    stems = ["adaptive_avg_pool"] if count == 1 else ["adaptive_avg_pool", "_adaptive_avg_pool"]

    @lowering(*(f"aten.{stem}{count}d.default" for stem in stems))
    def adaptive_avg_nd(call: Call, x: Value, output_size: Any) -> Value:
        return adaptive_avg_pool(call, x, count)


for _count in (1, 2, 3):
    _register(_count)


def adaptive_avg_pool(call: Call, x: Value, count: int) -> Value:
    """The mean of each axis' windows; window i of n goes from floor(i H / n) to ceil((i + 1) H / n)."""
    axes = tuple(range(x.rank - count, x.rank))
    out = call.shape[-count:]
    if all(size == 1 for size in out):
        axis: Any = axes[0] if count == 1 else axes
        return call.build.op(
            "mx.mean", x, shape=call.shape, dtype=x.dtype, axis=axis, keepdims=True
        )
    sizes = x.shape[-count:]
    if all(
        isinstance(h, int) and isinstance(n, int) and h % n == 0
        for h, n in zip(sizes, out, strict=True)
    ):
        kernel = tuple(h // n for h, n in zip(sizes, out, strict=True))
        if set(kernel) == {1}:
            return x
        x, _ = batched(call, x, count)
        last = call.build.transpose(x, channels_last(x.rank))
        return finish(call, pooled(call, "AvgPool", last, out, kernel, kernel))
    for axis, n in zip(axes, out, strict=True):
        x = _mean_of_windows(call, x, axis, n)
    return x


def _mean_of_windows(call: Call, x: Value, axis: int, n: Size) -> Value:
    size = x.shape[axis]
    if size == n:
        return x
    shape = tuple(n if position == axis else have for position, have in enumerate(x.shape))
    if n == 1:
        return call.build.op("mx.mean", x, shape=shape, dtype=x.dtype, axis=axis, keepdims=True)
    return call.build.op("fn.average_windows", x, n, shape=shape, dtype=x.dtype, axis=axis)


@lowering(
    "aten.adaptive_max_pool1d.default",
    "aten.adaptive_max_pool2d.default",
    "aten.adaptive_max_pool3d.default",
)
def adaptive_max_pool(call: Call, x: Value, output_size: Any) -> list[Value]:
    """The maximum of each window; its place too where something reads it, or where the sizes are symbolic."""
    count = int(call.name[len("aten.adaptive_max_pool")])
    sizes = list(zip(x.shape[-count:], call.shape[-count:], strict=True))
    fixed = all(
        (isinstance(size, int) and isinstance(n, int)) or n in (1, size) for size, n in sizes
    )
    if 1 not in call.unread or not fixed:
        windows = [_adaptive_windows(call, size, n) for size, n in sizes]
        return largest(call, x, windows)
    for axis, n in zip(range(x.rank - count, x.rank), call.shape[-count:], strict=True):
        x = _max_of_windows(call, x, axis, n)
    return [x, absent(call, 1, "the places")]


def _adaptive_windows(call: Call, size: Size, n: Size) -> Value:
    """The cells of each of n windows, as many as the widest has."""
    widest = simplify(-(-size // n) + 1)
    return call.build.op("fn.adaptive_windows", n, size, shape=(n, widest), dtype="int32")


def _max_of_windows(call: Call, x: Value, axis: int, n: Size) -> Value:
    size = x.shape[axis]
    shape = tuple(n if position == axis else have for position, have in enumerate(x.shape))
    if size == n:
        return x
    if n == 1:
        return call.build.op("mx.max", x, shape=shape, dtype=x.dtype, axis=axis, keepdims=True)
    whole = [slice(None)] * axis
    parts = []
    for window in range(n):
        start, stop = window * size // n, -(-(window + 1) * size // n)
        part_shape = tuple(
            stop - start if position == axis else have for position, have in enumerate(x.shape)
        )
        part = call.build.index(
            x, (*whole, slice(start or None, stop if stop < size else None)), part_shape
        )
        one = tuple(1 if position == axis else have for position, have in enumerate(x.shape))
        parts.append(
            call.build.op("mx.max", part, shape=one, dtype=x.dtype, axis=axis, keepdims=True)
        )
    return call.build.op("mx.concatenate", parts, shape=shape, dtype=x.dtype, axis=axis)
