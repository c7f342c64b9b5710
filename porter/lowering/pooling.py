"""Pooling. MLX's layers are channels-last and know neither ceil_mode nor uncounted padding: those are spelled out."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from porter.ir import Size, Value
from porter.ir.builder import simplify
from porter.lowering.axes import channels_first, channels_last, collapse, spread
from porter.lowering.creation import made
from porter.lowering.promotion import is_float
from porter.lowering.refusal import absent, refuse
from porter.lowering.registry import Call, lowering


def batched(call: Call, x: Value, count: int) -> tuple[Value, tuple[Size, ...]]:
    """The input with a batch axis, and the output's shape with one."""
    if x.rank == count + 2:
        return x, call.shape
    return call.build.op("mx.expand_dims", x, 0, shape=(1, *x.shape), dtype=x.dtype), (
        1,
        *call.shape,
    )


def finish(call: Call, last: Value) -> Value:
    """Back from channels-last, and without the batch axis that `_batched` gave."""
    result = call.build.transpose(last, channels_first(last.rank))
    if result.rank == len(call.shape):
        return result
    return call.build.op(".squeeze", result, 0, shape=call.shape, dtype=result.dtype)


def _overhang(size: Size, out: Size, kernel: int, stride: int, padding: int) -> Size:
    """How many cells the last window needs beyond the padded input.

    For a symbolic size that is at most stride - 1, and padding by so much gives the same number of windows wherever a
    window can't begin in it.
    """
    if isinstance(size, int) and isinstance(out, int):
        return max(0, (out - 1) * stride + kernel - size - 2 * padding)
    return stride - 1


def _pad(call: Call, x: Value, widths: Sequence[tuple[Size, Size]], value: float) -> Value:
    """Pads the axes between the first and the last."""
    if all(width == (0, 0) for width in widths):
        return x
    shape = [size + sum(width) for size, width in zip(x.shape[1:-1], widths, strict=True)]
    options = {} if value == 0 else {"constant_values": value}
    return call.build.op(
        "mx.pad",
        x,
        [(0, 0), *widths, (0, 0)],
        shape=(x.shape[0], *map(simplify, shape), x.shape[-1]),
        dtype=x.dtype,
        **options,
    )


def pooled(
    call: Call, cls: str, x: Value, out: Sequence[Size], kernel: Any, stride: Any, padding: Any = 0
) -> Value:
    """One mlx.nn layer over channels-last `x`; `out` are the sizes of its windows' axes."""
    shape = (x.shape[0], *out, x.shape[-1])
    attrs = {"kernel_size": collapse(kernel), "stride": collapse(stride)}
    attrs["padding"] = padding if isinstance(padding, int) else collapse(padding)
    return call.build.layer(f"nn.{cls}{len(kernel)}d", x, {}, shape, **attrs)


def _is_whole(out: Sequence[Size], kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> bool:
    """Whether the one window covers its input: with ceil_mode one that doesn't leaves room for a second."""
    steps = zip(kernel, stride, strict=True)
    return (
        ceil_mode
        and not any(padding)
        and all(n == 1 for n in out)
        and all(k >= s for k, s in steps)
    )


def _over_all(call: Call, op: str, x: Value, count: int) -> Value:
    """A reduction over the last axes, which stay with size 1."""
    axis: Any = x.rank - 1 if count == 1 else tuple(range(x.rank - count, x.rank))
    return call.build.op(op, x, shape=call.shape, dtype=x.dtype, axis=axis, keepdims=True)


def max_pool(
    call: Call,
    x: Value,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    count: int,
) -> Value:
    kernel, padding, dilation = (
        spread(kernel, count),
        spread(padding, count),
        spread(dilation, count),
    )
    stride = spread(stride, count) if stride not in (None, []) else kernel
    if set(dilation) == {1} and _is_whole(call.shape[-count:], kernel, stride, padding, ceil_mode):
        return _over_all(call, "mx.max", x, count)
    x, shape = batched(call, x, count)
    last, out = call.build.transpose(x, channels_last(x.rank)), shape[2:]
    if set(dilation) != {1}:
        return finish(
            call, _dilated_max(call, last, out, kernel, stride, padding, dilation, ceil_mode)
        )
    extra = [
        _overhang(*numbers) if ceil_mode else 0
        for numbers in zip(last.shape[1:-1], out, kernel, stride, padding, strict=True)
    ]
    if any(extra):
        _check_starts(call, kernel, stride, padding, last.shape[1:-1])
        last = _pad(
            call,
            last,
            [(p, p + more) for p, more in zip(padding, extra, strict=True)],
            -float("inf"),
        )
        padding = (0,) * count
    return finish(call, pooled(call, "MaxPool", last, out, kernel, stride, padding))


def _windows(call: Call, out: Size, kernel: int, *moves: int) -> Value:
    """The cells (out, kernel) of each window along one axis; `moves` are stride, padding and dilation."""
    options = {
        key: value
        for key, value, default in zip(("padding", "dilation"), moves[1:], (0, 1), strict=True)
        if value != default
    }
    return call.build.op(
        "fn.strided_windows", out, kernel, moves[0], shape=(out, kernel), dtype="int32", **options
    )


def largest(call: Call, x: Value, windows: list[Value]) -> list[Value]:
    """The largest cell of each window, and where it stands."""
    shapes, dtypes = zip(*call.outputs, strict=True)
    node = call.build.node("fn.max_pool_with_places", x, windows, shapes=shapes, dtypes=dtypes)
    return node.outputs


def _check_starts(
    call: Call,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    sizes: Sequence[Size],
) -> None:
    """torch drops a window that would begin in the padding; with symbolic sizes whether one does is not known."""
    for k, s, p, size in zip(kernel, stride, padding, sizes, strict=True):
        if p + s - 1 >= k and not isinstance(size, int):
            raise refuse(call, "ceil_mode with this stride and padding needs a fixed size")


def _dilated_max(
    call: Call,
    last: Value,
    out: Sequence[Size],
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
) -> Value:
    """The maximum of strided slices, one for each cell of the window."""
    build = call.build
    if not all(isinstance(size, int) for size in out):
        raise refuse(call, "a dilated window over an axis without a fixed size")
    reach = [
        (o - 1) * s + d * (k - 1) + 1
        for o, s, d, k in zip(out, stride, dilation, kernel, strict=True)
    ]
    widths = [
        (p, max(p, end - size - p))
        for p, end, size in zip(padding, reach, last.shape[1:-1], strict=True)
    ]
    last = _pad(call, last, widths, -float("inf"))
    shape = (last.shape[0], *out, last.shape[-1])
    result: Value | None = None
    for cell in range(prod(kernel)):
        key: list[Any] = [slice(None)]
        for axis, size in enumerate(kernel):
            offset = cell // prod(kernel[axis + 1 :]) % size * dilation[axis]
            key.append(slice(offset, offset + (out[axis] - 1) * stride[axis] + 1, stride[axis]))
        part = build.index(last, key, shape)
        result = (
            part
            if result is None
            else build.op("mx.maximum", result, part, shape=shape, dtype=part.dtype)
        )
    assert result is not None
    return result


def avg_pool(
    call: Call,
    x: Value,
    kernel: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    counts_padding: bool,
    divisor: int | None,
    count: int,
) -> Value:
    if not is_float(x.dtype):
        raise refuse(call, "the mean of integers")
    kernel, padding = spread(kernel, count), spread(padding, count)
    stride = spread(stride, count) if stride not in (None, []) else kernel
    if divisor is None and _is_whole(call.shape[-count:], kernel, stride, padding, ceil_mode):
        return _over_all(call, "mx.mean", x, count)
    x, shape = batched(call, x, count)
    build = call.build
    last, out = build.transpose(x, channels_last(x.rank)), shape[2:]
    extra = [
        _overhang(*numbers) if ceil_mode else 0
        for numbers in zip(last.shape[1:-1], out, kernel, stride, padding, strict=True)
    ]
    if any(extra):
        _check_starts(call, kernel, stride, padding, last.shape[1:-1])
    uncounted = not counts_padding and any(padding)
    if not any(extra) and (divisor is not None or not uncounted):
        result = pooled(call, "AvgPool", last, out, kernel, stride, padding)
    else:
        widths = [(p, p + more) for p, more in zip(padding, extra, strict=True)]
        result = pooled(call, "AvgPool", _pad(call, last, widths, 0), out, kernel, stride)
        if divisor is None:
            inner = [0] * count if uncounted else padding
            sizes = [
                simplify(size + 2 * p) for size, p in zip(last.shape[1:-1], inner, strict=True)
            ]
            cells = made(call, "mx.ones", (1, *sizes, 1), shape=(1, *sizes, 1), dtype=x.dtype)
            around = [(low - p, high - p) for (low, high), p in zip(widths, inner, strict=True)]
            share = pooled(call, "AvgPool", _pad(call, cells, around, 0), out, kernel, stride)
            result = build.op("/", result, share, shape=result.shape, dtype=x.dtype)
    if divisor is not None and divisor != prod(kernel):
        result = build.op("*", result, prod(kernel) / divisor)
    return finish(call, result)


def _register(count: int) -> None:
    @lowering(f"aten.max_pool{count}d.default")
    def max_pool_nd(
        call: Call,
        x: Value,
        kernel: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> Value:
        return max_pool(call, x, kernel, stride, padding, dilation, ceil_mode, count)

    @lowering(f"aten.max_pool{count}d_with_indices.default")
    def max_pool_with_places(
        call: Call, x: Value, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> list[Value]:  # fmt: skip
        if 1 in call.unread:
            pooled_ = max_pool_nd(call, x, kernel, stride, padding, dilation, ceil_mode)
            return [pooled_, absent(call, 1, "the places")]
        kernel = spread(kernel, count)
        stride = spread(stride, count) if stride not in (None, []) else kernel
        pads, gaps = spread(padding, count), spread(dilation, count)
        windows = [
            _windows(call, out, k, s, p, d)
            for out, k, s, p, d in zip(call.shape[-count:], kernel, stride, pads, gaps, strict=True)
        ]
        return largest(call, x, windows)

    @lowering(f"aten.avg_pool{count}d.default")
    def avg_pool_nd(
        call: Call, x: Value, kernel: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> Value:  # fmt: skip
        return avg_pool(
            call, x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override, count
        )


for _count in (1, 2, 3):
    _register(_count)


@lowering("aten.max_unpool2d.default", "aten.max_unpool3d.default")
def max_unpool(call: Call, x: Value, places: Value, output_size: Any, *_: Any) -> Value:
    """Each cell at its place in an image of zeros."""
    build = call.build
    count = 2 if "2d" in call.name else 3
    lead, size = x.shape[:-count], simplify(prod(call.shape[-count:]))
    cells = simplify(prod(x.shape[-count:]))
    image = made(call, "mx.zeros", (*lead, size), shape=(*lead, size), dtype=x.dtype)
    flat, where = build.reshape(x, (*lead, cells)), build.reshape(places, (*lead, cells))
    filled = build.op(
        "mx.put_along_axis", image, where, flat, shape=image.shape, dtype=x.dtype, axis=len(lead)
    )
    return build.reshape(filled, call.shape)
