"""Sliding windows over an axis, and patches put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from porter.ir import Size, Value
from porter.ir.builder import simplify
from porter.lowering.axes import axis_of, spread
from porter.lowering.creation import made
from porter.lowering.registry import Call, lowering


def _cells(call: Call, count: Size, size: int, step: int, spacing: int) -> Value:
    """(count, size) numbers: the cells of each window."""
    build = call.build
    starts = made(call, "mx.arange", count, shape=(count,), dtype="int32")
    if step != 1:
        starts = build.op("*", starts, step)
    starts = build.op("mx.expand_dims", starts, 1, shape=(count, 1), dtype="int32")
    offsets = made(call, "mx.arange", size, shape=(size,), dtype="int32")
    if spacing != 1:
        offsets = build.op("*", offsets, spacing)
    return build.op("+", starts, offsets, shape=(count, size), dtype="int32")


def _windows(
    call: Call, x: Value, axis: int, count: Size, size: int, step: int, spacing: int = 1
) -> Value:
    """The axis in two: which window, and where in it."""
    shape = (*x.shape[:axis], count, size, *x.shape[axis + 1 :])
    if step == size and spacing == 1 and simplify(count * size - x.shape[axis]) == 0:
        return call.build.reshape(x, shape)
    cells = _cells(call, count, size, step, spacing)
    return call.build.op("mx.take", x, cells, shape=shape, dtype=x.dtype, axis=axis)


@lowering("aten.unfold.default")
def unfold(call: Call, x: Value, dim: int, size: int, step: int) -> Value:
    """The place within the window comes last."""
    if x.rank == 0:
        return call.build.reshape(x, call.shape)
    axis = axis_of(dim, x.rank)
    windows = _windows(call, x, axis, call.shape[axis], size, step)
    order = [*(a for a in range(windows.rank) if a != axis + 1), axis + 1]
    return call.build.transpose(windows, order)


@lowering("aten.im2col.default")
def im2col(
    call: Call, x: Value, kernel: Sequence[int], dilation: Any, padding: Any, stride: Any
) -> Value:
    """(N, C, H, W) to (N, C kh kw, number of windows)."""
    if x.rank == 3:
        wide = call.build.reshape(x, (1, *x.shape))
        inner = replace(call, outputs=[((1, *call.shape), call.dtype)])
        windows = im2col(inner, wide, kernel, dilation, padding, stride)
        return call.build.reshape(windows, call.shape)
    build = call.build
    kernel, pads = spread(kernel, 2), spread(padding, 2)
    if any(pads):
        shape = (
            *x.shape[:2],
            *(simplify(size + 2 * p) for size, p in zip(x.shape[2:], pads, strict=True)),
        )
        x = build.op(
            "mx.pad", x, [(0, 0), (0, 0), *((p, p) for p in pads)], shape=shape, dtype=x.dtype
        )
    for axis, k, d, step in zip(
        (3, 2), kernel[::-1], spread(dilation, 2)[::-1], spread(stride, 2)[::-1], strict=True
    ):
        count = simplify((x.shape[axis] - d * (k - 1) - 1) // step + 1)
        x = _windows(call, x, axis, count, k, step, d)
    # (N, C, rows, kh, columns, kw)
    return build.reshape(build.transpose(x, (0, 1, 3, 5, 2, 4)), call.shape)


@lowering("aten.col2im.default")
def col2im(
    call: Call, x: Value, out: Sequence[Size], kernel: Any, dilation: Any, padding: Any, stride: Any
) -> Value:
    """(N, C kh kw, windows) to (N, C, H, W): windows that lie side by side are an image already, others add up."""
    if x.rank == 2:
        wide = call.build.reshape(x, (1, *x.shape))
        inner = replace(call, outputs=[((1, *call.shape), call.dtype)])
        image = col2im(inner, wide, out, kernel, dilation, padding, stride)
        return call.build.reshape(image, call.shape)
    build = call.build
    kernel, stride = tuple(spread(kernel, 2)), tuple(spread(stride, 2))
    padding, dilation = tuple(spread(padding, 2)), tuple(spread(dilation, 2))
    batch, channels, height, width = call.shape
    rows, columns = simplify(height // kernel[0]), simplify(width // kernel[1])
    covered = simplify(rows * kernel[0] - height) == 0 == simplify(columns * kernel[1] - width)
    if covered and stride == kernel and padding == (0, 0) and dilation == (1, 1):
        parts = build.reshape(x, (batch, channels, *kernel, rows, columns))
        return build.reshape(build.transpose(parts, (0, 1, 4, 2, 5, 3)), call.shape)
    parts = build.reshape(x, (batch, channels, kernel[0] * kernel[1], x.shape[2]))
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    plain = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    image = build.op(
        "fn.fold", build.transpose(parts, (0, 3, 2, 1)), (height, width), kernel,
        shape=(batch, height, width, channels), dtype=x.dtype,
        **{name: value for name, value in options.items() if value != plain[name]},
    )  # fmt: skip
    return build.transpose(image, (0, 3, 1, 2))
