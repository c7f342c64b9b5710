"""Reading images at computed places."""

from __future__ import annotations

from collections.abc import Sequence

from porter.ir import Size, Value
from porter.lowering.axes import channels_first, channels_last
from porter.lowering.registry import Call, lowering

_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")


@lowering(
    "aten.grid_sampler.default", "aten.grid_sampler_2d.default", "aten.grid_sampler_3d.default"
)
def grid_sample(
    call: Call, x: Value, grid: Value, mode: int, padding: int, align_corners: bool
) -> Value:
    build = call.build
    last = build.transpose(x, channels_last(x.rank))
    options: dict[str, object] = {}
    if padding:
        options["padding"] = _PADDINGS[padding]
    if align_corners:
        options["align_corners"] = True
    name = "fn.grid_sample_cubic" if _MODES[mode] == "bicubic" else "fn.grid_sample"
    if _MODES[mode] == "nearest":
        options["mode"] = "nearest"
    shape = tuple(call.shape[axis] for axis in channels_last(x.rank))
    result = build.op(name, last, grid, shape=shape, dtype=call.dtype, **options)
    return build.transpose(result, channels_first(x.rank))


@lowering("aten.affine_grid_generator.default")
def affine_grid(call: Call, theta: Value, size: Sequence[Size], align_corners: bool) -> Value:
    options = {"align_corners": True} if align_corners else {}
    return call.build.op(
        "fn.affine_grid", theta, tuple(size[2:]), shape=call.shape, dtype=call.dtype, **options
    )
