"""torchvision's own ops, and functions of its that are one op in the graph (frontends/whole_functions.py)."""

from __future__ import annotations

from typing import Any

from porter.ir import Size, Value
from porter.lowering.axes import channels_first, channels_last
from porter.lowering.parameters import permuted
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering


@lowering("torchvision.nms.default")
def nms(call: Call, boxes: Value, scores: Value, threshold: float) -> Value:
    """How many boxes are left is a size that depends on the data: the function waits for it."""
    return call.build.op("fn.nms", boxes, scores, threshold, shape=call.shape, dtype=call.dtype)


@lowering("porter.batched_nms.default")
def batched_nms(call: Call, boxes: Value, scores: Value, groups: Value, threshold: float) -> Value:
    return call.build.op(
        "fn.batched_nms", boxes, scores, groups, threshold, shape=call.shape, dtype=call.dtype
    )


@lowering("porter.heatmaps_to_keypoints.default")
def heatmaps_to_keypoints(call: Call, maps: Value, rois: Value) -> list[Value]:
    last = call.build.transpose(maps, channels_last(4))
    shapes, dtypes = zip(*call.outputs, strict=True)
    return call.build.node(
        "fn.heatmaps_to_keypoints", last, rois, shapes=shapes, dtypes=dtypes
    ).outputs


@lowering("porter.paste_masks_in_image.default")
def paste_masks_in_image(
    call: Call, masks: Value, boxes: Value, size: list[Size], padding: int = 1
) -> Value:
    build = call.build
    last = build.transpose(masks, channels_last(4))
    shape = tuple(call.shape[axis] for axis in channels_last(4))
    options = {} if padding == 1 else {"padding": padding}
    result = build.op(
        "fn.paste_masks", last, boxes, tuple(size), shape=shape, dtype=call.dtype, **options
    )
    return build.transpose(result, channels_first(4))


@lowering("torchvision.roi_align.default")
def roi_align(
    call: Call, x: Value, rois: Value, scale: float, height: Size, width: Size, samples: int, aligned: bool
) -> Value:  # fmt: skip
    if samples <= 0:
        raise refuse(call, "as many samples as a box is large: give sampling_ratio a number")
    build = call.build
    last = build.transpose(x, channels_last(4))
    options = {"aligned": True} if aligned else {}
    shape = tuple(call.shape[axis] for axis in channels_last(4))
    result = build.op(
        "fn.roi_align", last, rois, scale, (height, width), samples, shape=shape, dtype=call.dtype, **options
    )  # fmt: skip
    return build.transpose(result, channels_first(4))


@lowering("torchvision.deform_conv2d.default")
def deform_conv2d(
    call: Call, x: Value, weight: Value, offset: Value, mask: Value, bias: Value, *numbers: Any
) -> Value:
    build = call.build
    *moves, groups, offset_groups, uses_mask = numbers
    last = channels_last(4)
    names = ("stride", "padding", "dilation")
    pairs = {name: tuple(moves[2 * i : 2 * i + 2]) for i, name in enumerate(names)}
    defaults = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    options: dict[str, Any] = {k: pair for k, pair in pairs.items() if pair != defaults[k]}
    options |= {
        key: value
        for key, value in (("groups", groups), ("offset_groups", offset_groups))
        if value != 1
    }
    if uses_mask:
        options["mask"] = build.transpose(mask, last)
    kernel = permuted(weight, last) if weight.is_parameter else build.transpose(weight, last)
    shape = tuple(call.shape[axis] for axis in last)
    result = build.op(
        "fn.deform_conv2d", build.transpose(x, last), kernel, build.transpose(offset, last),
        shape=shape, dtype=call.dtype, **options,
    )  # fmt: skip
    result = build.op("+", result, bias, shape=shape, dtype=call.dtype)
    return build.transpose(result, channels_first(4))
