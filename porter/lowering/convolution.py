"""Convolutions. MLX's are channels-last, so each is wrapped in two transposes, which the layout pass takes away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from porter.ir import Size, Value
from porter.ir.builder import simplify
from porter.lowering.axes import channels_first, channels_last, collapse, spread
from porter.lowering.parameters import are_parameters, permuted, regrouped
from porter.lowering.promotion import is_float
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering


def _conv(
    call: Call,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Value:
    count = weight.rank - 2
    build = call.build
    if not is_float(call.dtype):
        raise refuse(call, "MLX convolves only floats")
    if x.rank == count + 1:
        batched = Call(build, [((1, *call.shape), call.dtype)], call.name, call.location)
        x = build.op("mx.expand_dims", x, 0, shape=(1, *x.shape), dtype=x.dtype)
        result = _conv(batched, x, weight, bias, stride, padding, dilation, groups)
        return build.op(".squeeze", result, 0, shape=call.shape, dtype=call.dtype)
    stride, dilation = spread(stride, count), spread(dilation, count)
    kernel = weight.shape[2:]
    x = build.transpose(x, channels_last(x.rank))
    if isinstance(padding, str):
        x, padding = _pad_by_name(call, x, padding, kernel, dilation)
    padding = spread(padding, count)
    shape = [call.shape[axis] for axis in channels_last(x.rank)]
    moves = {
        "stride": collapse(stride),
        "padding": collapse(padding),
        "dilation": collapse(dilation),
    }
    if (
        are_parameters(weight)
        and (bias is None or are_parameters(bias))
        and not (count == 3 and groups != 1)
    ):
        params = {"weight": permuted(weight, channels_last(weight.rank))} | (
            {} if bias is None else {"bias": bias}
        )
        attrs: dict[str, Any] = {
            "in_channels": weight.shape[1] * groups, "out_channels": weight.shape[0], "kernel_size": collapse(kernel), **moves
        }  # fmt: skip
        if count < 3:
            attrs["groups"] = groups
        result = build.layer(f"nn.Conv{count}d", x, params, shape, **attrs, bias=bias is not None)
    else:
        kernel_last = (
            permuted(weight, channels_last(weight.rank))
            if are_parameters(weight)
            else build.transpose(weight, channels_last(weight.rank))
        )
        options = {
            key: value for key, value in moves.items() if value != (0 if key == "padding" else 1)
        }
        if groups != 1:
            options["groups"] = groups
        name = "fn.grouped_conv3d" if count == 3 and groups != 1 else f"mx.conv{count}d"
        result = build.op(name, x, kernel_last, shape=shape, dtype=call.dtype, **options)
        if bias is not None:
            result = build.op("+", result, bias, shape=shape, dtype=call.dtype)
    return build.transpose(result, channels_first(result.rank))


def _pad_by_name(
    call: Call, x: Value, name: str, kernel: Sequence[Size], dilation: Sequence[int]
) -> tuple[Value, Any]:
    """torch's "same" pads the odd cell at the end."""
    if name == "valid":
        return x, 0
    totals = [step * (int(size) - 1) for size, step in zip(kernel, dilation, strict=True)]
    if all(total % 2 == 0 for total in totals):
        return x, tuple(total // 2 for total in totals)
    widths = [(0, 0), *((total // 2, total - total // 2) for total in totals), (0, 0)]
    shape = [size + sum(width) for size, width in zip(x.shape, widths, strict=True)]
    return call.build.op("mx.pad", x, widths, shape=shape, dtype=x.dtype), 0


def _register_conv(count: int) -> None:
    @lowering(f"aten.conv{count}d.default", f"aten.conv{count}d.padding")
    def conv(
        call: Call, x: Value, weight: Value, bias: Value | None = None,
        stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    ) -> Value:  # fmt: skip
        return _conv(call, x, weight, bias, stride, padding, dilation, groups)

    name = "aten.conv_transpose1d.default" if count == 1 else f"aten.conv_transpose{count}d.input"

    @lowering(name)
    def conv_transpose(
        call: Call, x: Value, weight: Value, bias: Value | None = None,
        stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
    ) -> Value:  # fmt: skip
        return _conv_transpose(
            call, x, weight, bias, stride, padding, output_padding, groups, dilation
        )


for _count in (1, 2, 3):
    _register_conv(_count)


@lowering("aten.convolution.default", "aten._convolution.default")
def convolution(
    call: Call, x: Value, weight: Value, bias: Value | None, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, *_: Any,
) -> Value:  # fmt: skip
    if transposed:
        return _conv_transpose(
            call, x, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return _conv(call, x, weight, bias, stride, padding, dilation, groups)


def _conv_transpose(
    call: Call, x: Value, weight: Value, bias: Value | None,
    stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any,
) -> Value:  # fmt: skip
    count = weight.rank - 2
    build = call.build
    if not is_float(call.dtype):
        raise refuse(call, "MLX convolves only floats")
    if x.rank == count + 1:
        batched = Call(build, [((1, *call.shape), call.dtype)], call.name, call.location)
        x = build.op("mx.expand_dims", x, 0, shape=(1, *x.shape), dtype=x.dtype)
        result = _conv_transpose(
            batched, x, weight, bias, stride, padding, output_padding, groups, dilation
        )
        return build.op(".squeeze", result, 0, shape=call.shape, dtype=call.dtype)
    # MLX's shape is wrong where the padding cuts more than one window reaches: the rest is cut off afterwards.
    # All of it is where the window is given, and may be of any size.
    reach = [
        d * (k - 1) if isinstance(k, int) else 0
        for d, k in zip(spread(dilation, count), weight.shape[2:], strict=True)
    ]
    rest = [max(0, p - most) for p, most in zip(spread(padding, count), reach, strict=True)]
    if any(rest):
        wide = [simplify(size + 2 * cut) for size, cut in zip(call.shape[2:], rest, strict=True)]
        uncut = Call(build, [((*call.shape[:2], *wide), call.dtype)], call.name, call.location)
        kept = tuple(p - cut for p, cut in zip(spread(padding, count), rest, strict=True))
        result = _conv_transpose(
            uncut, x, weight, bias, stride, kept, output_padding, groups, dilation
        )
        key = [
            slice(None),
            slice(None),
            *(slice(cut, -cut) if cut else slice(None) for cut in rest),
        ]
        return build.index(result, key, call.shape)
    moves = {
        "stride": collapse(spread(stride, count)),
        "padding": collapse(spread(padding, count)),
        "dilation": collapse(spread(dilation, count)),
        "output_padding": collapse(spread(output_padding, count)),
    }
    x = build.transpose(x, channels_last(x.rank))
    shape = [call.shape[axis] for axis in channels_last(x.rank)]
    if groups == 1 and are_parameters(weight) and (bias is None or are_parameters(bias)):
        params = {"weight": regrouped(weight, 1)} | ({} if bias is None else {"bias": bias})
        result = build.layer(
            f"nn.ConvTranspose{count}d", x, params, shape,
            in_channels=weight.shape[0], out_channels=weight.shape[1], kernel_size=collapse(weight.shape[2:]),
            **moves, bias=bias is not None,
        )  # fmt: skip
        return build.transpose(result, channels_first(result.rank))
    last = (1, *range(2, 2 + count), 0)
    by_group = groups != 1 and (count == 3 or not weight.is_parameter)
    if weight.is_parameter:
        turned = permuted(weight, last) if by_group else regrouped(weight, groups)
    else:
        turned = build.transpose(weight, last)
    options = {
        key: value for key, value in moves.items() if value != (0 if "padding" in key else 1)
    }
    if groups != 1:
        options["groups"] = groups
    name = f"fn.grouped_conv_transpose{count}d" if by_group else f"mx.conv_transpose{count}d"
    result = build.op(name, x, turned, shape=shape, dtype=call.dtype, **options)
    if bias is not None:
        result = build.op("+", result, bias, shape=shape, dtype=call.dtype)
    return build.transpose(result, channels_first(result.rank))
