"""Plain values as Python source, and what a number is in each instance of a class."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

Vector = dict[int, Any]  # instance -> value


@dataclass(frozen=True, slots=True)
class Code:
    """A value that is a piece of source: a function such as nn.relu."""

    text: str


#: From here on a round number is written with an exponent.
ROUND = 1e6

#: What torch.finfo gives where authors ask it: the last of what a type holds, and the step above 1.
_LIMITS = {
    -3.4028234663852886e38: "mx.finfo(mx.float32).min",
    3.4028234663852886e38: "mx.finfo(mx.float32).max",
    2.0**-23: "mx.finfo(mx.float32).eps",
    -3.3895313892515355e38: "mx.finfo(mx.bfloat16).min",
    -65504.0: "mx.finfo(mx.float16).min",
}


def is_constant(vector: Vector) -> bool:
    values = list(vector.values())
    first = values[0]
    if isinstance(first, float) and first != first:  # NaN is like no number, itself included
        return all(isinstance(value, float) and value != value for value in values)
    return all(type(value) is type(first) and value == first for value in values)


def literal(value: Any) -> str:
    """Python source of a plain value."""
    if isinstance(value, Code):
        return value.text
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, (list, tuple)):
        inner = ", ".join(map(literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return repr(value)


def _float(value: float) -> str:
    if value == float("inf"):
        return 'float("inf")'
    if value == float("-inf"):
        return '-float("inf")'
    if value != value:
        return 'float("nan")'
    if value in _LIMITS:
        return _LIMITS[value]
    short = f"{value:g}"
    text = short if abs(value) >= ROUND and float(short) == value else repr(value)
    return re.sub(r"e([+-]?)0*(\d)", lambda e: f"e{e[1].strip('+')}{e[2]}", text)
