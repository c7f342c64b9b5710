"""Elementwise arithmetic, comparisons and casts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from porter.ir import Value
from porter.lowering.promotion import category, is_float, is_scalar, natural_dtype, promoted
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering

# Functions of one array that give a float (of an int array too), and their MLX names.
UNARY = {
    "acos": "mx.arccos",
    "acosh": "mx.arccosh",
    "asin": "mx.arcsin",
    "asinh": "mx.arcsinh",
    "atan": "mx.arctan",
    "atanh": "mx.arctanh",
    "cos": "mx.cos",
    "cosh": "mx.cosh",
    "erf": "mx.erf",
    "erfinv": "mx.erfinv",
    "exp": "mx.exp",
    "expm1": "mx.expm1",
    "log": "mx.log",
    "log10": "mx.log10",
    "log1p": "mx.log1p",
    "log2": "mx.log2",
    "reciprocal": "mx.reciprocal",
    "rsqrt": "mx.rsqrt",
    "sigmoid": "mx.sigmoid",
    "sin": "mx.sin",
    "sinh": "mx.sinh",
    "sqrt": "mx.sqrt",
    "tan": "mx.tan",
    "tanh": "mx.tanh",
    # these keep the type
    "abs": "mx.abs",
    "neg": "neg",
    "sign": "mx.sign",
    "square": "mx.square",
    "bitwise_not": "~",
}
ROUNDING = {"ceil": "mx.ceil", "floor": "mx.floor", "round": "mx.round", "trunc": "mx.trunc"}
PREDICATES = {"isnan": "mx.isnan", "isinf": "mx.isinf", "isfinite": "mx.isfinite", "isposinf": "mx.isposinf",
              "isneginf": "mx.isneginf", "logical_not": "mx.logical_not"}  # fmt: skip
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
LOGICAL = {"logical_and": "mx.logical_and", "logical_or": "mx.logical_or"}
BITWISE = {
    "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^", "__and__": "&", "__or__": "|", "__xor__": "^",
    "bitwise_left_shift": "<<", "bitwise_right_shift": ">>", "__lshift__": "<<", "__rshift__": ">>",
}  # fmt: skip
BINARY = {
    "maximum.default": "mx.maximum",
    "minimum.default": "mx.minimum",
    "max.other": "mx.maximum",
    "min.other": "mx.minimum",
    "atan2.default": "mx.arctan2",
    "logaddexp.default": "mx.logaddexp",
}


def _names(name: str, *overloads: str) -> list[str]:
    """The functional and the in-place name of each overload."""
    return [f"aten.{stem}.{overload}" for overload in overloads for stem in (name, f"{name}_")]


def _unary(op: str) -> Callable[..., Value]:
    def lower(call: Call, x: Value) -> Value:
        return call.build.op(op, *promoted(call, x), shape=call.shape, dtype=call.dtype)

    return lower


def _rounding(op: str) -> Callable[..., Value]:
    def lower(call: Call, x: Value, decimals: int = 0) -> Value:
        if not is_float(x.dtype):
            return x
        if decimals:
            raise refuse(call, "rounding to decimals differs between the two in the last bit")
        return call.build.op(op, x, shape=call.shape, dtype=call.dtype)

    return lower


def _predicate(op: str) -> Callable[..., Value]:
    def lower(call: Call, x: Value) -> Value:
        return call.build.op(op, x, shape=call.shape, dtype="bool")

    return lower


def _comparison(op: str) -> Callable[..., Value]:
    def lower(call: Call, x: Value, other: Any) -> Value:
        return call.build.op(op, x, other, shape=call.shape, dtype="bool")

    return lower


def _binary(op: str) -> Callable[..., Value]:
    def lower(call: Call, x: Any, other: Any) -> Value:
        return call.build.op(op, *promoted(call, x, other), shape=call.shape, dtype=call.dtype)

    return lower


for _name, _op in UNARY.items():
    lowering(*_names(_name, "default"))(_unary(_op))
for _name, _op in ROUNDING.items():
    lowering(*_names(_name, "default"))(_rounding(_op))
for _name, _op in PREDICATES.items():
    lowering(*(_names(_name, "default") if _name == "logical_not" else [f"aten.{_name}.default"]))(_predicate(_op))
for _name, _op in COMPARISONS.items():
    lowering(*_names(_name, "Tensor", "Scalar"))(_comparison(_op))
for _name, _op in LOGICAL.items():
    lowering(*_names(_name, "default"))(_comparison(_op))
for _name, _op in BITWISE.items():
    _overloads = ("Tensor", "Scalar") if _name.startswith("__") else ("Tensor", "Scalar", "Tensor_Scalar")
    lowering(*([f"aten.{_name}.{o}" for o in _overloads] if _name.startswith("__") else _names(_name, *_overloads)))(
        _binary(_op)
    )
for _name, _op in BINARY.items():
    lowering(f"aten.{_name}")(_binary(_op))
lowering("aten.absolute.default")(_unary("mx.abs"))
lowering("aten.special_expm1.default")(_unary("mx.expm1"))
lowering("aten.special_expit.default")(_unary("mx.sigmoid"))
lowering("aten.negative.default")(_unary("neg"))


@lowering("aten.round.decimals")
def round_decimals(call: Call, x: Value, decimals: int = 0) -> Value:
    return _rounding("mx.round")(call, x, decimals)


@lowering("aten.logical_xor.default")
def logical_xor(call: Call, x: Value, other: Value) -> Value:
    return call.build.op("!=", call.build.cast(x, "bool"), call.build.cast(other, "bool"), dtype="bool")


@lowering("aten.positive.default", "aten.resolve_conj.default", "aten.resolve_neg.default")
def positive(call: Call, x: Value) -> Value:
    return x


@lowering(*_names("add", "Tensor", "Scalar"))
def add(call: Call, x: Any, other: Any, alpha: Any = 1) -> Value:
    return _sum(call, "+", x, other, alpha)


@lowering(*_names("sub", "Tensor", "Scalar"), *_names("subtract", "Tensor", "Scalar"))
def sub(call: Call, x: Any, other: Any, alpha: Any = 1) -> Value:
    return _sum(call, "-", x, other, alpha)


@lowering("aten.rsub.Tensor", "aten.rsub.Scalar")
def rsub(call: Call, x: Any, other: Any, alpha: Any = 1) -> Value:
    """other - alpha * x"""
    return _sum(call, "-", other, x, alpha)


def _sum(call: Call, op: str, x: Any, other: Any, alpha: Any) -> Value:
    x, other = promoted(call, x, other)
    if alpha != 1:
        other = alpha * other if is_scalar(other) else call.build.op("*", alpha, other)
    if call.dtype == "bool":  # torch's sum of bools is a bool
        return call.build.op("mx.logical_or", x, other, shape=call.shape, dtype="bool")
    return call.build.op(op, x, other, shape=call.shape, dtype=call.dtype)


@lowering(*_names("mul", "Tensor", "Scalar"), *_names("multiply", "Tensor"))
def mul(call: Call, x: Any, other: Any) -> Value:
    if call.dtype == "bool":
        return call.build.op("mx.logical_and", x, other, shape=call.shape, dtype="bool")
    return call.build.op("*", *promoted(call, x, other), shape=call.shape, dtype=call.dtype)


@lowering(*_names("div", "Tensor", "Scalar"), *_names("true_divide", "Tensor"), *_names("divide", "Tensor"))
def div(call: Call, x: Any, other: Any) -> Value:
    operands = [x, other] if category(x) < 2 and natural_dtype(1.0, x, other) == call.dtype else promoted(call, x, other)
    return call.build.op("/", *operands, shape=call.shape, dtype=call.dtype)


@lowering(*_names("div", "Tensor_mode", "Scalar_mode"), *_names("divide", "Tensor_mode"))
def div_mode(call: Call, x: Any, other: Any, rounding_mode: str | None = None) -> Value:
    if rounding_mode is None:
        return div(call, x, other)
    if rounding_mode == "floor":
        return floor_divide(call, x, other)
    if is_float(call.dtype):
        quotient = call.build.op("/", *promoted(call, x, other), shape=call.shape, dtype=call.dtype)
        return call.build.op("mx.trunc", quotient)
    remainder_ = fmod(call, x, other)
    difference = call.build.op("-", *promoted(call, x, remainder_), shape=call.shape, dtype=call.dtype)
    return call.build.op("//", difference, *promoted(call, other)[:1], shape=call.shape, dtype=call.dtype)


@lowering(*_names("floor_divide", "default"), "aten.floor_divide.Scalar")
def floor_divide(call: Call, x: Any, other: Any) -> Value:
    """For floats torch subtracts the remainder first: 1 // 0.1 is 9, where MLX's rounded quotient gives 10."""
    x, other = promoted(call, x, other)
    if not is_float(call.dtype) or _is_power_of_two(other):
        return call.build.op("//", x, other, shape=call.shape, dtype=call.dtype)
    rest = call.build.op("%", x, other, shape=call.shape, dtype=call.dtype)
    whole = call.build.op("-", x, rest, shape=call.shape, dtype=call.dtype)
    return call.build.op("mx.round", call.build.op("/", whole, other, shape=call.shape, dtype=call.dtype))


def _is_power_of_two(number: Any) -> bool:
    return isinstance(number, (int, float)) and number > 0 and float(number).hex().startswith("0x1.0000000000000p")


@lowering(*_names("remainder", "Tensor", "Scalar"))
def remainder(call: Call, x: Any, other: Any) -> Value:
    """The sign is the divisor's, in both."""
    return call.build.op("%", *promoted(call, x, other), shape=call.shape, dtype=call.dtype)


@lowering(*_names("fmod", "Tensor", "Scalar"))
def fmod(call: Call, x: Any, other: Any) -> Value:
    """The sign is the dividend's, so the remainder is taken of the magnitudes."""
    x, other = promoted(call, x, other)
    size = abs(other) if is_scalar(other) else call.build.op("mx.abs", other)
    rest = call.build.op("%", call.build.op("mx.abs", x), size, shape=call.shape, dtype=call.dtype)
    return call.build.op("*", call.build.op("mx.sign", x), rest, shape=call.shape, dtype=call.dtype)


_POWERS = {2: "mx.square", 0.5: "mx.sqrt", -0.5: "mx.rsqrt", -1: "mx.reciprocal"}


@lowering(*_names("pow", "Tensor_Scalar", "Tensor_Tensor", "Scalar"), "aten.float_power.Tensor_Scalar")
def power(call: Call, x: Any, exponent: Any) -> Value:
    """`x ** exponent`, by the function's name where it has one."""
    if isinstance(x, Value) and is_scalar(exponent):
        if exponent == 1 and x.dtype == call.dtype:
            return x
        if exponent in _POWERS and (exponent == 2 or is_float(call.dtype)):
            return call.build.op(_POWERS[exponent], *promoted(call, x), shape=call.shape, dtype=call.dtype)
    return call.build.op("**", *promoted(call, x, exponent), shape=call.shape, dtype=call.dtype)


@lowering(*_names("clamp", "default", "Tensor"), *_names("clip", "default"))
def clamp(call: Call, x: Value, lower: Any = None, upper: Any = None, **names: Any) -> Value:
    lower, upper = names.get("min", lower), names.get("max", upper)
    if lower is None or upper is None:
        bound = upper if lower is None else lower
        op = "mx.minimum" if lower is None else "mx.maximum"
        return call.build.op(op, *promoted(call, x, bound), shape=call.shape, dtype=call.dtype)
    return call.build.op("mx.clip", *promoted(call, x, lower, upper), shape=call.shape, dtype=call.dtype)


@lowering(*_names("clamp_min", "default", "Tensor"))
def clamp_min(call: Call, x: Value, bound: Any = None, **names: Any) -> Value:
    return clamp(call, x, names.get("min", bound), None)


@lowering(*_names("clamp_max", "default", "Tensor"))
def clamp_max(call: Call, x: Value, bound: Any = None, **names: Any) -> Value:
    return clamp(call, x, None, names.get("max", bound))


@lowering("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar")
def where(call: Call, condition: Value, x: Any, other: Any) -> Value:
    condition = call.build.cast(condition, "bool")
    if is_scalar(x) and is_scalar(other):
        chosen = call.build.op("mx.where", condition, x, other, shape=call.shape, dtype=natural_dtype(x, other) or call.dtype)
        return call.build.cast(chosen, call.dtype)
    return call.build.op("mx.where", condition, *promoted(call, x, other), shape=call.shape, dtype=call.dtype)


@lowering(*_names("masked_fill", "Scalar", "Tensor"))
def masked_fill(call: Call, x: Value, mask: Value, value: Any) -> Value:
    if isinstance(value, Value):
        value = call.build.cast(value, call.dtype)
    return call.build.op("mx.where", call.build.cast(mask, "bool"), value, x, shape=call.shape, dtype=call.dtype)


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
    step = call.build.op("*", weight, call.build.op("-", end, start), shape=call.shape, dtype=call.dtype)
    return call.build.op("+", start, step, shape=call.shape, dtype=call.dtype)


@lowering("aten.nan_to_num.default", "aten.nan_to_num_.default")
def nan_to_num(call: Call, x: Value, nan: float | None = None, posinf: float | None = None, neginf: float | None = None) -> Value:
    if not is_float(x.dtype):
        return x
    return call.build.op(
        "mx.nan_to_num", x, shape=call.shape, dtype=call.dtype, nan=nan or 0.0, posinf=posinf, neginf=neginf
    )


@lowering("aten.to.dtype", "aten.to.dtype_layout", "aten.to.device", "aten.to.other", "aten._to_copy.default", "aten.type_as.default")
def to(call: Call, x: Value, *_: Any, **__: Any) -> Value:
    """A cast; devices and memory formats mean nothing here."""
    return call.build.cast(x, call.dtype)
