"""Resizing. By whole factors mlx.nn's Upsample is exact; elsewhere its coordinates differ, so they are spelled out.

The coordinates are those of ATen's UpSample.h: with `align_corners` the corner cells' centres meet, else the cells'
edges do, and a given scale factor is used as it is, even where it does not divide the sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sympy

from porter.ir import Size, Value
from porter.ir.builder import simplify
from porter.lowering.axes import channels_first, channels_last, collapse
from porter.lowering.creation import made
from porter.lowering.promotion import is_float
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering


def _resize(call: Call, x: Value, mode: str, align: bool, factors: Sequence[float] | None) -> Value:
    count = x.rank - 2
    if not is_float(x.dtype) and mode != "nearest":
        raise refuse(call, "the image holds integers, where torch rounds", decompose=False)
    if call.shape == x.shape and (factors is None or set(factors) == {1.0}):
        return x
    build = call.build
    sizes, out = x.shape[2:], call.shape[2:]
    if all(size == 1 for size in sizes):  # every cell is the one there is
        return build.op("mx.broadcast_to", x, call.shape, shape=call.shape, dtype=x.dtype)
    last = build.transpose(x, channels_last(x.rank))
    given = list(factors) if factors else [None] * count
    whole = [_whole_factor(h, n, f) for h, n, f in zip(sizes, out, given, strict=True)]
    if mode in ("nearest", "linear", "cubic") and None not in whole:
        attrs: dict[str, Any] = {"scale_factor": collapse(whole), "mode": mode}  # type: ignore[type-var]
        if align:
            attrs["align_corners"] = True
        last = build.layer("nn.Upsample", last, {}, (last.shape[0], *out, last.shape[-1]), **attrs)
        return build.transpose(last, channels_first(x.rank))
    for axis, (size, n, factor) in enumerate(zip(sizes, out, given, strict=True), 1):
        if size == n and factor in (None, 1.0):
            continue
        if mode in _FUNCTIONS:
            last = _between(call, last, _FUNCTIONS[mode], axis, n, align, factor)
        else:
            last = _SAMPLERS[mode](call, last, axis, n, _step(size, n, factor, align))
    return build.transpose(build.cast(last, x.dtype), channels_first(x.rank))


def _whole_factor(size: Size, out: Size, factor: float | None) -> int | None:
    ratio = sympy.sympify(out) / sympy.sympify(size) if factor is None else sympy.sympify(factor)
    # Of sympy's numbers 2.0 is not equal to 2.
    return int(ratio) if ratio.is_number and float(ratio) == int(ratio) >= 1 else None


#: What reads between cells.
_FUNCTIONS = {"linear": "fn.resize_linear", "cubic": "fn.resize_cubic"}


def _between(
    call: Call, x: Value, function: str, axis: int, out: Size, align: bool, factor: float | None
) -> Value:
    shape = (*x.shape[:axis], out, *x.shape[axis + 1 :])
    how: dict[str, Any] = {"align_corners": True} if align else {}
    if factor and not align:
        how["scale"] = 1.0 / float(factor)
    return call.build.op(function, x, out, shape=shape, dtype=x.dtype, axis=axis, **how)


def _step(size: Size, out: Size, factor: float | None, align: bool) -> Any:
    """Source cells per output cell; a number, or an expression of sizes."""
    if align:
        return 0.0 if out == 1 else (size - 1) / (out - 1)
    return 1.0 / float(factor) if factor else size / out


def _take(call: Call, x: Value, cells: Value, axis: int) -> Value:
    shape = (*x.shape[:axis], cells.shape[0], *x.shape[axis + 1 :])
    return call.build.op("mx.take", x, cells, shape=shape, dtype=x.dtype, axis=axis)


def _nearest(offset: float) -> Callable[..., Value]:
    def sample(call: Call, x: Value, axis: int, out: Size, step: Any) -> Value:
        build = call.build
        cells = made(call, "mx.arange", out, shape=(out,), dtype="float32")
        if offset:
            cells = build.op("+", cells, offset)
        cells = build.op("mx.floor", build.op("*", cells, step))
        cells = build.op("mx.minimum", build.cast(cells, "int32"), simplify(x.shape[axis] - 1))
        return _take(call, x, cells, axis)

    return sample


def _antialiased(kernel: Callable[[Call, Value], Value]) -> Callable[..., Value]:
    """A product with the matrix of the kernel's values, widened where the image shrinks; its rows add up to 1."""

    def sample(call: Call, x: Value, axis: int, out: Size, step: Any) -> Value:
        build = call.build
        size = x.shape[axis]
        cells = build.op("+", made(call, "mx.arange", out, shape=(out,), dtype="float32"), 0.5)
        centres = build.op(
            "mx.expand_dims", build.op("*", cells, step), 1, shape=(out, 1), dtype="float32"
        )
        source = build.op("+", made(call, "mx.arange", size, shape=(size,), dtype="float32"), 0.5)
        distance = build.op("mx.abs", build.op("-", source, centres, shape=(out, size)))
        width = sympy.Max(1, step) if isinstance(step, sympy.Basic) else max(1.0, step)
        if width != 1:
            distance = build.op("/", distance, width)
        weights = kernel(call, distance)
        total = build.op("mx.sum", weights, shape=(out, 1), dtype="float32", axis=1, keepdims=True)
        weights = build.op("/", weights, total)
        equation = "oh,nhwc->nowc" if axis == 1 else "ow,nhwc->nhoc"
        shape = (*x.shape[:axis], out, *x.shape[axis + 1 :])
        return build.op("mx.einsum", equation, weights, x, shape=shape, dtype="float32")

    return sample


def _triangle(call: Call, distance: Value) -> Value:
    return call.build.op("mx.maximum", call.build.op("-", 1, distance), 0)


def _keys(call: Call, distance: Value) -> Value:
    """Keys' kernel with a = -0.5."""
    build = call.build
    line = build.op("-", build.op("*", 1.5, distance), 2.5)
    inner = build.op("+", build.op("*", line, build.op("mx.square", distance)), 1)
    beyond = build.op(
        "mx.clip", build.op("-", distance, 1), 0, 1, shape=distance.shape, dtype="float32"
    )
    tail = build.op(
        "*", build.op("*", -0.5, beyond), build.op("mx.square", build.op("-", 1, beyond))
    )
    return build.op(
        "mx.where", build.op("<", distance, 1), inner, tail, shape=distance.shape, dtype="float32"
    )


_SAMPLERS: dict[str, Callable[..., Value]] = {
    "nearest": _nearest(0),
    "nearest-exact": _nearest(0.5),
    "linear-aa": _antialiased(_triangle),
    "cubic-aa": _antialiased(_keys),
}


def _register(name: str, mode: str, has_align: bool) -> None:
    @lowering(f"aten.{name}.vec")
    def from_factors(call: Call, x: Value, size: Any, *rest: Any) -> Value:
        align, factors = (rest[0], rest[1]) if has_align else (False, rest[0])
        return _resize(call, x, mode, align, factors)

    @lowering(f"aten.{name}.default")
    def from_size(call: Call, x: Value, size: Any, *rest: Any, **names: Any) -> Value:
        align, scales = (rest[0], rest[1:]) if has_align else (False, rest)
        given = [scale for scale in (*scales, *names.values()) if scale is not None]
        return _resize(call, x, mode, align, given if len(given) == x.rank - 2 else None)


for _stem, _mode in (
    ("linear1d", "linear"),
    ("bilinear2d", "linear"),
    ("trilinear3d", "linear"),
    ("bicubic2d", "cubic"),
):
    _register(f"upsample_{_stem}", _mode, True)
for _count in (1, 2, 3):
    _register(f"upsample_nearest{_count}d", "nearest", False)
    _register(f"_upsample_nearest_exact{_count}d", "nearest-exact", False)
_register("_upsample_bilinear2d_aa", "linear-aa", True)
_register("_upsample_bicubic2d_aa", "cubic-aa", True)
