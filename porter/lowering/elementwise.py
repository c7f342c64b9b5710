"""Elementwise arithmetic, comparisons and casts."""

from __future__ import annotations

from collections.abc import Callable
from math import copysign as copysign_of
from typing import Any

from porter.ir import Value
from porter.lowering.arithmetic import names_of
from porter.lowering.promotion import is_float, is_scalar, natural_dtype, number_of, promoted
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
    "__iand__": "&", "__ior__": "|", "__ixor__": "^", "__ilshift__": "<<", "__irshift__": ">>",
}  # fmt: skip
#: `1 << x` is none of an array's operators.
AFTER_NUMBERS = {"<<": "mx.left_shift", ">>": "mx.right_shift"}
BINARY = {
    "maximum.default": "mx.maximum",
    "minimum.default": "mx.minimum",
    "max.other": "mx.maximum",
    "min.other": "mx.minimum",
    "atan2.default": "mx.arctan2",
    "logaddexp.default": "mx.logaddexp",
}


NO_COMPLEX = ("mx.expm1", "mx.sigmoid")


def _unary(op: str) -> Callable[..., Value]:
    def lower(call: Call, x: Value) -> Value:
        if op in NO_COMPLEX and x.dtype == "complex64":
            raise refuse(call, f"MLX has no {op} of complex numbers")
        if op == "mx.abs" and x.dtype == "complex64":
            return call.build.op(op, x, shape=call.shape, dtype=call.dtype)
        return call.build.op(op, *promoted(call, x), shape=call.shape, dtype=call.dtype)

    return lower


def _rounding(op: str) -> Callable[..., Value]:
    def lower(call: Call, x: Value, decimals: int = 0) -> Value:
        if not is_float(x.dtype):
            return x
        if decimals:
            return _round_to(call, x, decimals)
        return call.build.op(op, x, shape=call.shape, dtype=call.dtype)

    return lower


def _round_to(call: Call, x: Value, decimals: int) -> Value:
    """As torch does it: by the power of ten as a float, and back, in x's own type."""
    build, scale = call.build, float(10 ** abs(decimals))
    there, back = ("*", "/") if decimals > 0 else ("/", "*")
    scaled = build.op("mx.round", build.op(there, x, scale))
    return build.op(back, scaled, scale, shape=call.shape, dtype=call.dtype)


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
        first, second = promoted(call, x, other)
        if op in ("&", "|", "^") and not isinstance(first, Value):
            first, second = second, first  # `7 & x` finds no operator
        name = op if isinstance(first, Value) else AFTER_NUMBERS.get(op, op)
        return call.build.op(name, first, second, shape=call.shape, dtype=call.dtype)

    return lower


for _name, _op in UNARY.items():
    lowering(*names_of(_name, "default"))(_unary(_op))
for _name, _op in ROUNDING.items():
    lowering(*names_of(_name, "default"))(_rounding(_op))
for _name, _op in PREDICATES.items():
    lowering(
        *(names_of(_name, "default") if _name == "logical_not" else [f"aten.{_name}.default"])
    )(_predicate(_op))
for _name, _op in COMPARISONS.items():
    lowering(*names_of(_name, "Tensor", "Scalar"))(_comparison(_op))
for _name, _op in LOGICAL.items():
    lowering(*names_of(_name, "default"))(_comparison(_op))
for _name, _op in BITWISE.items():
    _overloads = (
        ("Tensor", "Scalar")
        if _name.startswith("__")
        else ("Tensor", "Scalar", "Tensor_Scalar", "Scalar_Tensor")
    )
    lowering(
        *(
            [f"aten.{_name}.{o}" for o in _overloads]
            if _name.startswith("__")
            else names_of(_name, *_overloads)
        )
    )(_binary(_op))
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
    return call.build.op(
        "!=", call.build.cast(x, "bool"), call.build.cast(other, "bool"), dtype="bool"
    )


@lowering("aten.positive.default", "aten.resolve_conj.default", "aten.resolve_neg.default")
def positive(call: Call, x: Value) -> Value:
    return x


@lowering(*names_of("clamp", "default", "Tensor"), *names_of("clip", "default"))
def clamp(call: Call, x: Value, lower: Any = None, upper: Any = None, **names: Any) -> Value:
    lower, upper = names.get("min", lower), names.get("max", upper)
    if lower is None or upper is None:
        bound = upper if lower is None else lower
        op = "mx.minimum" if lower is None else "mx.maximum"
        return call.build.op(op, *promoted(call, x, bound), shape=call.shape, dtype=call.dtype)
    return call.build.op(
        "mx.clip", *promoted(call, x, lower, upper), shape=call.shape, dtype=call.dtype
    )


@lowering(*names_of("clamp_min", "default", "Tensor"))
def clamp_min(call: Call, x: Value, bound: Any = None, **names: Any) -> Value:
    return clamp(call, x, names.get("min", bound), None)


@lowering(*names_of("clamp_max", "default", "Tensor"))
def clamp_max(call: Call, x: Value, bound: Any = None, **names: Any) -> Value:
    return clamp(call, x, None, names.get("max", bound))


@lowering("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar")
def where(call: Call, condition: Value, x: Any, other: Any) -> Value:
    condition = call.build.cast(condition, "bool")
    if is_scalar(x) and is_scalar(other):
        chosen = call.build.op(
            "mx.where",
            condition,
            x,
            other,
            shape=call.shape,
            dtype=natural_dtype(x, other) or call.dtype,
        )
        return call.build.cast(chosen, call.dtype)
    return call.build.op(
        "mx.where", condition, *promoted(call, x, other), shape=call.shape, dtype=call.dtype
    )


@lowering(*names_of("masked_fill", "Scalar", "Tensor"))
def masked_fill(call: Call, x: Value, mask: Value, value: Any) -> Value:
    value = number_of(value)
    if isinstance(value, Value):
        value = call.build.cast(value, call.dtype)
    return call.build.op(
        "mx.where", call.build.cast(mask, "bool"), value, x, shape=call.shape, dtype=call.dtype
    )


@lowering("aten.nan_to_num.default", "aten.nan_to_num_.default")
def nan_to_num(
    call: Call,
    x: Value,
    nan: float | None = None,
    posinf: float | None = None,
    neginf: float | None = None,
) -> Value:
    if not is_float(x.dtype):
        return x
    return call.build.op(
        "mx.nan_to_num",
        x,
        shape=call.shape,
        dtype=call.dtype,
        nan=nan or 0.0,
        posinf=posinf,
        neginf=neginf,
    )


@lowering(
    "aten.to.dtype",
    "aten.to.dtype_layout",
    "aten.to.device",
    "aten.to.other",
    "aten._to_copy.default",
    "aten.type_as.default",
)
def to(call: Call, x: Value, *_: Any, **__: Any) -> Value:
    """A cast; devices and memory formats mean nothing here."""
    return call.build.cast(x, call.dtype)


@lowering(*names_of("copysign", "Tensor", "Scalar"))
def copysign(call: Call, x: Value, other: Any) -> Value:
    """The magnitude of x with the sign of the other; a zero has one too, which its reciprocal tells."""
    build = call.build
    x, other = promoted(call, x, other)
    size = build.op("mx.abs", x)
    if is_scalar(other):
        return size if copysign_of(1.0, other) > 0 else build.op("neg", size)
    below = build.op("<", other, 0)
    zero = build.op("<", build.op("mx.reciprocal", other), 0)
    negative = build.op("|", below, zero, shape=other.shape, dtype="bool")
    return build.op(
        "mx.where", negative, build.op("neg", size), size, shape=call.shape, dtype=call.dtype
    )


@lowering("aten.fmax.default", "aten.fmin.default")
def extremum_without_nan(call: Call, x: Value, other: Value) -> Value:
    """Where one of the two is NaN, the other."""
    build = call.build
    x, other = promoted(call, x, other)
    op = "mx.maximum" if "fmax" in call.name else "mx.minimum"
    chosen = build.op(op, x, other, shape=call.shape, dtype=call.dtype)
    if not is_float(call.dtype):
        return chosen
    rest = build.op(
        "mx.where", build.op("mx.isnan", other), x, chosen, shape=call.shape, dtype=call.dtype
    )
    return build.op(
        "mx.where", build.op("mx.isnan", x), other, rest, shape=call.shape, dtype=call.dtype
    )


@lowering(*names_of("frac", "default"))
def fraction(call: Call, x: Value) -> Value:
    return call.build.op("-", x, call.build.op("mx.trunc", x))


@lowering("aten.deg2rad.default", "aten.rad2deg.default")
def degrees(call: Call, x: Value) -> Value:
    op = "mx.radians" if "deg2rad" in call.name else "mx.degrees"
    return call.build.op(op, *promoted(call, x), shape=call.shape, dtype=call.dtype)


@lowering("aten.signbit.default")
def signbit(call: Call, x: Value) -> Value:
    below = call.build.op("<", x, 0)
    if not is_float(x.dtype):
        return below
    zero = call.build.op("<", call.build.op("mx.reciprocal", x), 0)
    return call.build.op("|", below, zero, shape=call.shape, dtype="bool")


@lowering(*names_of("float_power", "Tensor_Tensor", "Scalar"))
def float_power(call: Call, x: Any, exponent: Any) -> Value:
    """torch's result is a float64, which MLX does not have: float32 here, as for every float64."""
    return call.build.op("**", *promoted(call, x, exponent), shape=call.shape, dtype=call.dtype)


@lowering(*names_of("hypot", "default"), "prims.hypot.default")
def hypot(call: Call, x: Value, other: Value) -> Value:
    """By the larger of the two, so that no square overflows."""
    x, other = promoted(call, x, other)
    return call.build.op("fn.hypot", x, other, shape=call.shape, dtype=call.dtype)
