"""Sums, products, quotients, remainders and powers."""

from __future__ import annotations

from typing import Any

from porter.ir import Value
from porter.lowering.promotion import category, is_float, is_scalar, natural_dtype, promoted
from porter.lowering.registry import Call, lowering


def names_of(name: str, *overloads: str) -> list[str]:
    """The functional and the in-place name of each overload."""
    return [f"aten.{stem}.{overload}" for overload in overloads for stem in (name, f"{name}_")]


@lowering(*names_of("add", "Tensor", "Scalar"))
def add(call: Call, x: Any, other: Any, alpha: Any = 1) -> Value:
    return _sum(call, "+", x, other, alpha)


@lowering(*names_of("sub", "Tensor", "Scalar"), *names_of("subtract", "Tensor", "Scalar"))
def sub(call: Call, x: Any, other: Any, alpha: Any = 1) -> Value:
    return _sum(call, "-", x, other, alpha)


@lowering("aten.rsub.Tensor", "aten.rsub.Scalar")
def rsub(call: Call, x: Any, other: Any, alpha: Any = 1) -> Value:
    """other - alpha * x"""
    return _sum(call, "-", other, x, alpha)


def _sum(call: Call, op: str, x: Any, other: Any, alpha: Any) -> Value:
    x, other = promoted(call, x, other)
    if isinstance(alpha, Value) or alpha != 1:
        plain = is_scalar(other) and is_scalar(alpha)
        other = alpha * other if plain else call.build.op("*", alpha, other)
    if call.dtype == "bool":  # torch's sum of bools is a bool
        return call.build.op("mx.logical_or", x, other, shape=call.shape, dtype="bool")
    return call.build.op(op, x, other, shape=call.shape, dtype=call.dtype)


@lowering(*names_of("mul", "Tensor", "Scalar"), *names_of("multiply", "Tensor"))
def mul(call: Call, x: Any, other: Any) -> Value:
    if call.dtype == "bool":
        return call.build.op("mx.logical_and", x, other, shape=call.shape, dtype="bool")
    if is_scalar(other) and isinstance(x, Value) and type(other) in (int, float) and other == 1:
        return call.build.cast(x, call.dtype)
    return call.build.op("*", *promoted(call, x, other), shape=call.shape, dtype=call.dtype)


@lowering(
    *names_of("div", "Tensor", "Scalar"),
    *names_of("true_divide", "Tensor"),
    *names_of("divide", "Tensor"),
)
def div(call: Call, x: Any, other: Any) -> Value:
    operands = (
        [x, other]
        if category(x) < 2 and natural_dtype(1.0, x, other) == call.dtype
        else promoted(call, x, other)
    )
    return call.build.op("/", *operands, shape=call.shape, dtype=call.dtype)


@lowering(*names_of("div", "Tensor_mode", "Scalar_mode"), *names_of("divide", "Tensor_mode"))
def div_mode(call: Call, x: Any, other: Any, rounding_mode: str | None = None) -> Value:
    if rounding_mode is None:
        return div(call, x, other)
    if rounding_mode == "floor":
        return floor_divide(call, x, other)
    if is_float(call.dtype):
        quotient = call.build.op("/", *promoted(call, x, other), shape=call.shape, dtype=call.dtype)
        return call.build.op("mx.trunc", quotient)
    remainder_ = fmod(call, x, other)
    difference = call.build.op(
        "-", *promoted(call, x, remainder_), shape=call.shape, dtype=call.dtype
    )
    return call.build.op(
        "//", difference, *promoted(call, other)[:1], shape=call.shape, dtype=call.dtype
    )


@lowering(*names_of("floor_divide", "default"), "aten.floor_divide.Scalar")
def floor_divide(call: Call, x: Any, other: Any) -> Value:
    """For floats torch subtracts the remainder first: 1 // 0.1 is 9, where MLX's rounded quotient gives 10."""
    x, other = promoted(call, x, other)
    if not is_float(call.dtype) or _is_power_of_two(other):
        return call.build.op("//", x, other, shape=call.shape, dtype=call.dtype)
    rest = call.build.op("%", x, other, shape=call.shape, dtype=call.dtype)
    whole = call.build.op("-", x, rest, shape=call.shape, dtype=call.dtype)
    return call.build.op(
        "mx.round", call.build.op("/", whole, other, shape=call.shape, dtype=call.dtype)
    )


def _is_power_of_two(number: Any) -> bool:
    return (
        isinstance(number, (int, float))
        and number > 0
        and float(number).hex().startswith("0x1.0000000000000p")
    )


@lowering(*names_of("remainder", "Tensor", "Scalar"))
def remainder(call: Call, x: Any, other: Any) -> Value:
    """The sign is the divisor's, in both."""
    return call.build.op("%", *promoted(call, x, other), shape=call.shape, dtype=call.dtype)


@lowering(*names_of("fmod", "Tensor", "Scalar"))
def fmod(call: Call, x: Any, other: Any) -> Value:
    """The sign is the dividend's, so the remainder is taken of the magnitudes."""
    x, other = promoted(call, x, other)
    size = abs(other) if is_scalar(other) else call.build.op("mx.abs", other)
    rest = call.build.op("%", call.build.op("mx.abs", x), size, shape=call.shape, dtype=call.dtype)
    return call.build.op("*", call.build.op("mx.sign", x), rest, shape=call.shape, dtype=call.dtype)


_POWERS = {2: "mx.square", 0.5: "mx.sqrt", -0.5: "mx.rsqrt", -1: "mx.reciprocal"}


@lowering(
    *names_of("pow", "Tensor_Scalar", "Tensor_Tensor", "Scalar"), "aten.float_power.Tensor_Scalar"
)
def power(call: Call, x: Any, exponent: Any) -> Value:
    """`x ** exponent`, by the function's name where it has one."""
    if isinstance(x, Value) and is_scalar(exponent):
        if exponent == 1 and x.dtype == call.dtype:
            return x
        if exponent in _POWERS and (exponent == 2 or is_float(call.dtype)):
            return call.build.op(
                _POWERS[exponent], *promoted(call, x), shape=call.shape, dtype=call.dtype
            )
    return call.build.op("**", *promoted(call, x, exponent), shape=call.shape, dtype=call.dtype)


@lowering("aten.addcmul.default", "aten.addcmul_.default")
def addcmul(call: Call, x: Value, first: Value, second: Value, value: Any = 1) -> Value:
    product = call.build.op("*", first, second)
    if value != 1:
        product = call.build.op("*", value, product)
    return call.build.op("+", x, product, shape=call.shape, dtype=call.dtype)


@lowering("aten.addcdiv.default", "aten.addcdiv_.default")
def addcdiv(call: Call, x: Value, first: Value, second: Value, value: Any = 1) -> Value:
    quotient = call.build.op("/", first, second)
    if value != 1:
        quotient = call.build.op("*", value, quotient)
    return call.build.op("+", x, quotient, shape=call.shape, dtype=call.dtype)


@lowering("aten.lerp.Scalar", "aten.lerp.Tensor", "aten.lerp_.Scalar", "aten.lerp_.Tensor")
def lerp(call: Call, start: Value, end: Value, weight: Any) -> Value:
    step = call.build.op(
        "*", weight, call.build.op("-", end, start), shape=call.shape, dtype=call.dtype
    )
    return call.build.op("+", start, step, shape=call.shape, dtype=call.dtype)
