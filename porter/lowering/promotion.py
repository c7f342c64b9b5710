"""Where torch's type promotion and MLX's differ, a cast.

torch sorts types into categories (bool, int, float, complex), and a scalar or a 0-d tensor lifts only to its category;
MLX treats a Python scalar so too, but an int32 array beside a float scalar gives float32 on both sides, and a 0-d
float32 array lifts a bfloat16 one in MLX only.
"""

from __future__ import annotations

from typing import Any

import sympy

from porter.ir import Value
from porter.ir.builder import promote
from porter.lowering.registry import Call

FLOATS = ("float16", "bfloat16", "float32")
HALVES = ("float16", "bfloat16")
INTEGERS = ("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64")


def is_scalar(item: Any) -> bool:
    """A Python number, or a number made of symbolic sizes."""
    return isinstance(item, (bool, int, float, complex, sympy.Basic))


def number_of(item: Any) -> Any:
    """The Python number in a constant without axes that torch lifted (`x[mask] = 0.5`); anything else as it is."""
    if not isinstance(item, Value) or item.rank or item.data is None:
        return item
    if not (item.path or "").rpartition(".")[2].startswith("lifted_tensor"):
        return item
    return item.data.item() if item.data.dtype.kind in "iubc" else float(str(item.data))


def is_float(dtype: str) -> bool:
    return dtype in FLOATS


def category(item: Any) -> int:
    """0 bool, 1 integer, 2 float, 3 complex."""
    if isinstance(item, Value):
        dtype = item.dtype
        return 0 if dtype == "bool" else 1 if dtype in INTEGERS else 2 if dtype in FLOATS else 3
    if isinstance(item, bool):
        return 0
    if isinstance(item, sympy.Basic):
        return 1 if item.is_integer else 2
    return {int: 1, float: 2, complex: 3}[type(item)]


def natural_dtype(*items: Any) -> str:
    """What MLX gives for an operation over arrays and Python scalars."""
    arrays = [item for item in items if isinstance(item, Value)]
    dtype = _promote(arrays)
    highest = max((category(item) for item in items if not isinstance(item, Value)), default=0)
    if highest > max(map(category, arrays), default=0):
        return ("bool", "int32", "float32", "complex64")[highest]
    return dtype


def _promote(arrays: list[Value]) -> str:
    try:
        return promote(*arrays)
    except ValueError:
        return "" if len({value.dtype for value in arrays}) > 1 else arrays[0].dtype


def promoted(call: Call, *items: Any, dtype: str | None = None) -> list[Any]:
    """The operands, cast where MLX by itself would not compute in `dtype` (by default the type that must come out)."""
    dtype = dtype or call.dtype
    numbers = tuple(map(number_of, items))
    if any(isinstance(item, Value) for item in numbers):
        items = numbers
    if natural_dtype(*items) == dtype:
        return list(items)
    return [call.build.cast(item, dtype) if isinstance(item, Value) else item for item in items]
