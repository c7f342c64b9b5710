"""Arrays that are made, not computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from porter.ir import Size, Value
from porter.lowering.promotion import is_float, number_of
from porter.lowering.registry import Call, lowering


def made(call: Call, op: str, *args: Any, shape: Sequence[Size], dtype: str) -> Value:
    """A new array; its type is said in the call."""
    return call.build.node(op, *args, shapes=[tuple(shape)], dtypes=[dtype], dtype=dtype).output


@lowering("aten.arange.default")
def arange(call: Call, end: Any, **_: Any) -> Value:
    return _arange(call, end)


@lowering("aten.arange.start")
def arange_start(call: Call, start: Any, end: Any, **_: Any) -> Value:
    return _arange(call, *([end] if start == 0 else [start, end]))


@lowering("aten.arange.start_step")
def arange_step(call: Call, start: Any, end: Any, step: Any = 1, **_: Any) -> Value:
    return arange_start(call, start, end) if step == 1 else _arange(call, start, end, step)


def _arange(call: Call, *bounds: Any) -> Value:
    if is_float(call.dtype):
        whole = all(not isinstance(bound, float) or bound == int(bound) for bound in bounds)
        bounds = tuple(
            int(bound) if whole and isinstance(bound, float) else bound for bound in bounds
        )
    return made(call, "mx.arange", *bounds, shape=call.shape, dtype=call.dtype)


def _filled(call: Call, value: Any) -> Value:
    """By the function's name for 0 and 1."""
    shape, value = tuple(call.shape), number_of(value)
    if isinstance(value, Value):
        return made(
            call,
            "mx.full",
            shape,
            call.build.cast(value, call.dtype),
            shape=shape,
            dtype=call.dtype,
        )
    if value == 0 or value == 1:
        name = "mx.ones" if value == 1 else "mx.zeros"
        return made(call, name, shape, shape=shape, dtype=call.dtype)
    if call.dtype == "complex64":  # mx.full takes a float's type for its result
        value = complex(value)
    return made(call, "mx.full", shape, value, shape=shape, dtype=call.dtype)


@lowering(
    "aten.zeros.default", "aten.zeros_like.default", "aten.new_zeros.default", "aten.empty.memory_format",
    "aten.empty_like.default", "aten.new_empty.default", "aten.empty_permuted.default",
    "aten.new_empty_strided.default", "aten.empty_strided.default", "aten.zero.default", "aten.zero_.default",
)  # fmt: skip
def zeros(call: Call, *_: Any, **__: Any) -> Value:
    """What torch leaves unset is 0 here."""
    return _filled(call, 0)


@lowering("aten.ones.default", "aten.ones_like.default", "aten.new_ones.default")
def ones(call: Call, *_: Any, **__: Any) -> Value:
    return _filled(call, 1)


@lowering(
    "aten.full.default", "aten.full_like.default", "aten.new_full.default", "aten.fill.Scalar", "aten.fill_.Scalar",
    "aten.fill.Tensor", "aten.fill_.Tensor",
)  # fmt: skip
def full(call: Call, _: Any, value: Any = 0, *rest: Any, **__: Any) -> Value:
    """new_full(x, size, value) has one argument more."""
    return _filled(call, rest[0] if "new_full" in call.name else value)


@lowering("aten.scalar_tensor.default")
def scalar_tensor(call: Call, value: Any, **_: Any) -> Value:
    return made(call, "mx.array", value, shape=(), dtype=call.dtype)


@lowering("aten.linspace.default")
def linspace(call: Call, start: Any, end: Any, steps: Any, **_: Any) -> Value:
    return made(call, "mx.linspace", start, end, steps, shape=call.shape, dtype=call.dtype)


@lowering("aten.eye.default", "aten.eye.m")
def eye(call: Call, rows: Any, columns: Any = None, **_: Any) -> Value:
    sizes: Sequence[Any] = [rows] if columns is None or columns == rows else [rows, columns]
    return made(call, "mx.eye", *sizes, shape=call.shape, dtype=call.dtype)
