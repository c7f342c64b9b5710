"""Activation functions: mlx.nn's where it is the same function to the last few bits, else spelled out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from porter.ir import Value
from porter.lowering.axes import axis_of
from porter.lowering.promotion import is_float, promoted
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering, register_table

TABLE = {
    f"aten.{name}{suffix}.default": op
    for name, op in {
        "relu": "nn.relu",
        "silu": "nn.silu",
        "mish": "nn.mish",
        "hardswish": "nn.hardswish",
    }.items()
    for suffix in ("", "_")
} | {"aten.log_sigmoid.default": "nn.log_sigmoid", "aten.softsign.default": "nn.softsign"}
register_table(TABLE)


def _shared(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return lowering(f"aten.{name}.default", f"aten.{name}_.default")


@lowering("aten.gelu.default", "aten.gelu_.default")
def gelu(call: Call, x: Value, approximate: str = "none") -> Value:
    return call.build.op("nn.gelu" if approximate == "none" else "nn.gelu_approx", x)


@_shared("leaky_relu")
def leaky_relu(call: Call, x: Value, slope: Any = 0.01, **names: Any) -> Value:
    slope = names.get("negative_slope", slope)
    if slope <= 1:  # mlx.nn takes the maximum of x and slope * x
        return call.build.op("nn.leaky_relu", x, slope)
    return call.build.op(
        "mx.where", call.build.op(">", x, 0), x, call.build.op("*", slope, x), dtype=x.dtype
    )


@_shared("elu")
def elu(call: Call, x: Value, alpha: Any = 1.0, scale: Any = 1.0, input_scale: Any = 1.0) -> Value:
    """Not by mlx.nn's exp(x) - 1: it loses small inputs, and its gradient is nan for large ones."""
    build = call.build
    if input_scale == 1:
        result = build.op("fn.elu", x) if alpha == 1 else build.op("fn.elu", x, alpha)
        return result if scale == 1 else build.op("*", scale, result)
    inner = build.op("*", input_scale, x)
    low = build.op("mx.expm1", build.op("mx.minimum", inner, 0))
    if alpha * scale != 1:
        low = build.op("*", alpha * scale, low)
    high = x if scale == 1 else build.op("*", scale, x)
    return build.op("mx.where", build.op(">", x, 0), high, low, dtype=x.dtype)


@_shared("selu")
def selu(call: Call, x: Value) -> Value:
    return elu(call, x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


@_shared("celu")
def celu(call: Call, x: Value, alpha: Any = 1.0) -> Value:
    return elu(call, x, alpha, 1.0, 1.0 / alpha)


@lowering("aten.softplus.default")
def softplus(call: Call, x: Value, beta: Any = 1, threshold: Any = 20) -> Value:
    """log(1 + exp(beta * x)) / beta; above the threshold torch returns x, which from 17 on is the same float32."""
    build = call.build
    inner = x if beta == 1 else build.op("*", beta, x)
    result = build.op("nn.softplus", inner)
    if beta != 1:
        result = build.op("/", result, beta)
    if threshold < 17:
        result = build.op("mx.where", build.op(">", inner, threshold), x, result, dtype=x.dtype)
    return result


@_shared("hardsigmoid")
def hardsigmoid(call: Call, x: Value) -> Value:
    return call.build.op("/", call.build.op("nn.relu6", call.build.op("+", x, 3)), 6)


@_shared("hardtanh")
def hardtanh(call: Call, x: Value, low: Any = -1.0, high: Any = 1.0, **names: Any) -> Value:
    low, high = names.get("min_val", low), names.get("max_val", high)
    if not is_float(x.dtype):
        low, high = int(low), int(high)
    elif low == 0 and high == 6:
        return call.build.op("nn.relu6", x)
    return call.build.op("mx.clip", x, low, high, shape=x.shape, dtype=x.dtype)


@_shared("relu6")
def relu6(call: Call, x: Value) -> Value:
    return hardtanh(call, x, 0, 6)


@lowering("aten.hardshrink.default")
def hardshrink(call: Call, x: Value, lambd: Any = 0.5) -> Value:
    big = call.build.op(">", call.build.op("mx.abs", x), lambd)
    return call.build.op("mx.where", big, x, 0, dtype=x.dtype)


@lowering("aten.softshrink.default")
def softshrink(call: Call, x: Value, lambd: Any = 0.5) -> Value:
    clipped = call.build.op("mx.clip", x, -lambd, lambd, shape=x.shape, dtype=x.dtype)
    return call.build.op("-", x, clipped)


@_shared("threshold")
def threshold(call: Call, x: Value, bound: Any, value: Any, **_: Any) -> Value:
    return call.build.op("mx.where", call.build.op(">", x, bound), x, value, dtype=x.dtype)


@lowering("aten.tanhshrink.default")
def tanhshrink(call: Call, x: Value) -> Value:
    return call.build.op("-", x, call.build.op("mx.tanh", x))


@lowering("aten.prelu.default", "aten._prelu_kernel.default")
def prelu(call: Call, x: Value, weight: Value) -> Value:
    """The weight holds one slope, or one for each channel (axis 1)."""
    if x.rank == 0:
        weight = call.build.reshape(weight, ())
    if weight.rank == 1 and x.rank > 2 and weight.shape != (1,):
        weight = call.build.reshape(weight, (weight.shape[0], *[1] * (x.rank - 2)))
    return call.build.op("nn.prelu", x, weight, shape=x.shape, dtype=x.dtype)


@lowering("aten.glu.default")
def glu(call: Call, x: Value, dim: int = -1) -> Value:
    return call.build.op("nn.glu", x, shape=call.shape, dtype=x.dtype, axis=axis_of(dim, x.rank))


@lowering("aten.rrelu.default", "aten.rrelu_.default")
def rrelu(
    call: Call,
    x: Value,
    lower: float = 0.125,
    upper: float = 1 / 3,
    training: bool = False,
    _: Any = None,
) -> Value:
    if training:
        raise refuse(call, "it draws random numbers in eval mode too: pass training=self.training")
    return leaky_relu(call, x, (lower + upper) / 2)


@lowering(
    "aten.dropout.default", "aten.dropout_.default", "aten.feature_dropout.default", "aten.feature_dropout_.default",
    "aten.alpha_dropout.default", "aten.alpha_dropout_.default", "aten.feature_alpha_dropout.default",
)  # fmt: skip
def dropout(call: Call, x: Value, p: float = 0.5, train: bool = False) -> Value:
    """Nothing: what is ported is the model in eval mode."""
    if train and p:
        raise refuse(call, "it draws random numbers in eval mode too: pass training=self.training")
    return x


@lowering("aten.xlogy.Tensor", "aten.special_xlogy.default")
def xlogy(call: Call, x: Value, y: Value) -> Value:
    """x * log(y), and 0 where x is 0."""
    x, y = promoted(call, x, y)
    product = call.build.op("*", x, call.build.op("mx.log", y))
    return call.build.op(
        "mx.where", call.build.op("==", x, 0), 0, product, shape=call.shape, dtype=call.dtype
    )


@lowering("aten.logit.default", "aten.special_logit.default", "aten.logit_.default")
def logit(call: Call, x: Value, eps: float | None = None) -> Value:
    x = promoted(call, x)[0]
    if eps is not None:
        x = call.build.op("mx.clip", x, eps, 1 - eps, shape=x.shape, dtype=x.dtype)
    odds = call.build.op("/", x, call.build.op("-", 1, x))
    return call.build.op("mx.log", odds)
