"""Normalization layers, and their spelled-out forms where statistics or weights are not parameters."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from porter.ir import Value
from porter.ir.builder import simplify
from porter.lowering.axes import channels_first, channels_last
from porter.lowering.creation import made
from porter.lowering.parameters import are_parameters, reshaped
from porter.lowering.refusal import absent, refuse
from porter.lowering.registry import Call, lowering

# torch's eps of an rms_norm that names none.
_EPSILON = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def _affine(weight: Value | None, bias: Value | None) -> dict[str, Value]:
    return {key: value for key, value in (("weight", weight), ("bias", bias)) if value is not None}


def _owned(*values: Value | None) -> bool:
    """Whether all that are there are parameters."""
    return all(value is None for value in values) or are_parameters(*values)


@lowering("aten.batch_norm.default")
def batch_norm(
    call: Call, x: Value, weight: Value | None, bias: Value | None, mean: Value | None, var: Value | None,
    training: bool, momentum: Any, eps: float, cudnn: bool = True,
) -> Value:  # fmt: skip
    if training:  # the author's own call with training=True: the model itself is in eval mode
        mean = var = None
    owned = _owned(weight, bias, mean, var) and isinstance(x.shape[1], int)
    if not owned or (weight is None) != (bias is None) or eps <= 0:
        return _spelled_batch_norm(call, x, weight, bias, mean, var, eps)
    params = _affine(weight, bias)
    if mean is not None and var is not None:
        params |= {"running_mean": mean, "running_var": var}
    attrs = {
        "num_features": x.shape[1], "eps": eps, "momentum": momentum,
        "affine": weight is not None, "track_running_stats": "running_mean" in params,
    }  # fmt: skip
    return _channels_last(call, "nn.BatchNorm", x, params, attrs)  # type: ignore[arg-type]


@lowering("aten._native_batch_norm_legit_no_training.default")
def native_batch_norm(
    call: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value,
    var: Value,
    momentum: Any,
    eps: float,
) -> list[Value]:
    """Without the batch's statistics: torch gives empty arrays for them."""
    normed = batch_norm(call, x, weight, bias, mean, var, False, momentum, eps)
    nothing = [
        made(call, "mx.zeros", tuple(shape), shape=shape, dtype=dtype)
        for place, (shape, dtype) in enumerate(call.outputs[1:], 1)
        if place not in call.unread and shape == (0,)
    ]
    if len(nothing) == 2:
        return [normed, *nothing]
    return [normed, absent(call, 1, "the mean"), absent(call, 2, "the deviation")]


def _channels_last(
    call: Call, cls: str, x: Value, params: dict[str, Value], attrs: dict[str, Any]
) -> Value:
    build = call.build
    if x.rank == 2:
        return build.layer(cls, x, params, x.shape, **attrs)
    last = build.transpose(x, channels_last(x.rank))
    flat = last
    if cls == "nn.BatchNorm" and x.rank == 5:  # mlx.nn's takes at most four axes
        n, _, _, width, channels = last.shape
        flat = build.reshape(last, (n, simplify(prod(last.shape[1:3])), width, channels))
    result = build.reshape(build.layer(cls, flat, params, flat.shape, **attrs), last.shape)
    return build.transpose(result, channels_first(x.rank))


def _spelled_batch_norm(
    call: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    eps: float,
    by_sample: bool = False,
) -> Value:
    """(x - mean) * rsqrt(var + eps) * weight + bias over axis 1; without statistics those of the batch (or sample)."""
    build = call.build

    def along_channels(value: Value) -> Value:
        return build.reshape(value, (value.shape[0], *[1] * (x.rank - 2)))

    if mean is None or var is None:
        kept = (0, 1) if by_sample else (1,)
        axes = tuple(axis for axis in range(x.rank) if axis not in kept)
        shape = tuple(size if axis in kept else 1 for axis, size in enumerate(x.shape))
        mean = build.op("mx.mean", x, shape=shape, dtype=x.dtype, axis=axes, keepdims=True)
        var = build.op("mx.var", x, shape=shape, dtype=x.dtype, axis=axes, keepdims=True)
    else:
        mean, var = along_channels(mean), along_channels(var)
    result = build.op("*", build.op("-", x, mean), build.op("mx.rsqrt", build.op("+", var, eps)))
    if weight is not None:
        result = build.op("*", result, along_channels(weight))
    if bias is not None:
        result = build.op("+", result, along_channels(bias))
    return result


@lowering("aten.instance_norm.default")
def instance_norm(
    call: Call, x: Value, weight: Value | None, bias: Value | None, mean: Value | None, var: Value | None,
    use_input_stats: bool, momentum: Any, eps: float, cudnn: bool = True,
) -> Value:  # fmt: skip
    if not use_input_stats:
        return batch_norm(call, x, weight, bias, mean, var, False, momentum, eps)
    sized = isinstance(x.shape[1], int)
    if not _owned(weight, bias) or (weight is None) != (bias is None) or eps <= 0 or not sized:
        return _spelled_batch_norm(call, x, weight, bias, None, None, eps, by_sample=True)
    attrs = {"dims": x.shape[1], "eps": eps, "affine": weight is not None}
    return _channels_last(call, "nn.InstanceNorm", x, _affine(weight, bias), attrs)


@lowering("aten.group_norm.default")
def group_norm(
    call: Call,
    x: Value,
    groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn: bool = True,
) -> Value:
    build = call.build
    sized = isinstance(x.shape[1], int)
    if _owned(weight, bias) and (weight is None) == (bias is None) and eps > 0 and sized:
        attrs = {
            "num_groups": groups, "dims": x.shape[1], "eps": eps,
            "affine": weight is not None, "pytorch_compatible": True,
        }  # fmt: skip
        return _channels_last(call, "nn.GroupNorm", x, _affine(weight, bias), attrs)
    grouped = build.reshape(x, (x.shape[0], groups, simplify(prod(x.shape[1:])) // groups))
    grouped = build.op(
        "mx.fast.layer_norm", grouped, None, None, eps, shape=grouped.shape, dtype=x.dtype
    )
    result = build.reshape(grouped, x.shape)
    for op, value in (("*", weight), ("+", bias)):
        if value is not None:
            result = build.op(
                op, result, build.reshape(value, (value.shape[0], *[1] * (x.rank - 2)))
            )
    return result


@lowering("aten.layer_norm.default")
def layer_norm(
    call: Call,
    x: Value,
    sizes: Sequence[Any],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn: bool = True,
) -> Value:
    build = call.build
    flat, weight, bias = _over_last_axis(call, x, sizes, weight, bias)
    if (
        _owned(weight, bias)
        and not (weight is None and bias is not None)
        and eps > 0
        and isinstance(flat.shape[-1], int)
    ):
        attrs = {
            "dims": flat.shape[-1],
            "eps": eps,
            "affine": weight is not None,
            "bias": bias is not None,
        }
        if weight is None:
            attrs["bias"] = True  # mlx.nn's default, without meaning here
        result = build.layer("nn.LayerNorm", flat, _affine(weight, bias), flat.shape, **attrs)
    else:
        result = build.op(
            "mx.fast.layer_norm", flat, weight, bias, eps, shape=flat.shape, dtype=x.dtype
        )
    return build.reshape(result, x.shape)


@lowering("aten.native_layer_norm.default")
def native_layer_norm(
    call: Call, x: Value, sizes: Sequence[Any], weight: Value | None, bias: Value | None, eps: float
) -> list[Value]:
    """The statistics, which only the gradient needs, where something reads them."""
    normed = layer_norm(call, x, sizes, weight, bias, eps)
    axes = tuple(range(x.rank - len(sizes), x.rank))
    return [normed, *_statistics(call, x, axes, eps)]


@lowering("aten.native_group_norm.default")
def native_group_norm(
    call: Call, x: Value, weight: Value | None, bias: Value | None, n: Any, c: Any, hw: Any, groups: int, eps: float
) -> list[Value]:  # fmt: skip
    normed = group_norm(call, x, groups, weight, bias, eps)
    if {1, 2} <= call.unread:
        return [normed, *_statistics(call, x, (), eps)]
    size = simplify(prod(x.shape[1:])) // groups
    return [
        normed, *_statistics(call, call.build.reshape(x, (x.shape[0], groups, size)), (2,), eps)
    ]  # fmt: skip


def _statistics(call: Call, x: Value, axes: tuple[int, ...], eps: float) -> list[Value]:
    """The mean and 1 / sqrt(variance + eps) over `axes`, of the shapes that torch gives them; or what stands for them."""
    if {1, 2} <= call.unread:
        return [absent(call, 1, "the mean"), absent(call, 2, "the deviation")]
    build = call.build
    (mean_shape, mean_dtype), (shape, dtype) = call.outputs[1:]
    wide = build.cast(x, mean_dtype)
    options: dict[str, Any] = {"axis": axes[0] if len(axes) == 1 else axes}
    if len(mean_shape) == x.rank:
        options["keepdims"] = True
    mean = build.op("mx.mean", wide, shape=mean_shape, dtype=mean_dtype, **options)
    var = build.op("mx.var", wide, shape=shape, dtype=dtype, **options)
    return [mean, build.op("mx.rsqrt", build.op("+", var, eps))]


@lowering("aten.rms_norm.default")
def rms_norm(
    call: Call,
    x: Value,
    sizes: Sequence[Any],
    weight: Value | None = None,
    eps: float | None = None,
) -> Value:
    build = call.build
    if x.dtype not in _EPSILON:
        raise refuse(call, f"a norm of {x.dtype}")
    eps = _EPSILON[x.dtype] if eps is None else eps
    flat, weight, _ = _over_last_axis(call, x, sizes, weight, None)
    if weight is not None and weight.is_parameter and eps > 0:
        attrs = {"dims": flat.shape[-1], "eps": eps}
        result = build.layer("nn.RMSNorm", flat, {"weight": weight}, flat.shape, **attrs)
    else:
        result = build.op("mx.fast.rms_norm", flat, weight, eps, shape=flat.shape, dtype=x.dtype)
    return build.reshape(result, x.shape)


def _over_last_axis(
    call: Call, x: Value, sizes: Sequence[Any], weight: Value | None, bias: Value | None
) -> tuple[Value, Value | None, Value | None]:
    """Several normalized axes as one."""
    if len(sizes) == 1:
        return x, weight, bias
    total = simplify(prod(x.shape[x.rank - len(sizes) :]))
    flat = call.build.reshape(x, (*x.shape[: x.rank - len(sizes)], total))

    def flattened(value: Value | None) -> Value | None:
        if value is None:
            return None
        return (
            reshaped(value, (total,)) if value.is_parameter else call.build.reshape(value, (total,))
        )  # type: ignore[arg-type]

    return flat, flattened(weight), flattened(bias)
