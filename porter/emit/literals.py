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
    return re.sub(r"e-0(\d)", r"e-\1", repr(value))
