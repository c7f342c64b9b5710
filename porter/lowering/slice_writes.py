"""Writes into slices of several axes at once (frontends/write_slices.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from porter.ir import Size, Value
from porter.ir.builder import simplify
from porter.ir.ops import FILLED
from porter.lowering.promotion import is_float, is_scalar, number_of
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering
from porter.lowering.shapes import from_end
from porter.lowering.writing import bound, resized, slice_scatter, spread

_END = 2**63 - 1
#: What makes an array that nothing else holds.
_NEW = ("mx.zeros", "mx.ones", "mx.full", "[]=")
Part = tuple[int, Any, Any, int]


@lowering("porter.set_slices.Tensor", "porter.set_slices.Scalar")
def set_slices(
    call: Call, x: Value, value: Any, axes: Sequence[int], starts: Sequence[Any], ends: Sequence[Any], steps: Sequence[int]
) -> Value:  # fmt: skip
    """Of a new array a statement; else the parts before, the new one, and those after."""
    value = number_of(value)
    parts = list(zip(axes, starts, ends, steps, strict=True))
    if is_scalar(value) and x.node is not None and x.node.op in _NEW:
        if value == {"mx.zeros": 0, "mx.ones": 1}.get(x.node.op):
            return x  # as it is already
        return _statement(call, x, value, parts)
    if len(parts) > 1 and any(part[3] > 1 for part in parts):  # that leaves no parts to join
        return _statement(call, x, value, parts)
    picked = [part[0] for part in parts if part[3] == 0]
    parts = [part if part[3] else (part[0], part[1], _after(part[1]), 1) for part in parts]
    shape = list(x.shape)
    for axis, start, end, step in parts:
        first, last = bound(start, x.shape[axis], 0), bound(end, x.shape[axis], x.shape[axis])
        if step != 1 and not (isinstance(first, int) and isinstance(last, int)):
            raise refuse(call, "a step over an axis whose size may change")
        shape[axis] = simplify(last - first) if step == 1 else len(range(first, last, step))
    if isinstance(value, Value) and picked:
        left = [size for axis, size in enumerate(shape) if axis not in picked]
        value = call.build.reshape(spread(call, value, left, x.dtype), shape)
    source = spread(call, value, shape, x.dtype)
    return _written(call, x, source, parts) if parts else source


def _key(part: Part, size: Size) -> Any:
    _, start, end, step = part
    if step == 0:
        return start
    start = None if start == 0 else from_end(start, size)
    end = None if end in (_END, size) else from_end(end, size)
    return slice(start, end, None if step == 1 else step)


def _after(place: Any) -> Any:
    return _END if place == -1 else simplify(place + 1)


def _statement(call: Call, x: Value, value: Any, parts: list[Part]) -> Value:
    key: list[Any] = [slice(None)] * x.rank
    for part in parts:
        key[part[0]] = _key(part, x.shape[part[0]])
    if isinstance(value, Value) and value.node is not None and value.node.op in FILLED:
        value = {"mx.zeros": 0, "mx.ones": 1}.get(value.node.op, value.node.args[-1])
    if isinstance(value, Value):
        value = call.build.cast(value, x.dtype)
    elif is_float(x.dtype):
        value = float(value)
    attrs = {"key": tuple(key)}
    return call.build.node("[]=", x, value, shapes=[x.shape], dtypes=[x.dtype], attrs=attrs).output


def _written(call: Call, x: Value, source: Value, parts: list[Part]) -> Value:
    (axis, start, end, step), *rest = parts
    if rest:
        first, last = bound(start, x.shape[axis], 0), bound(end, x.shape[axis], x.shape[axis])
        key = (*[slice(None)] * axis, slice(first, last))
        inner = call.build.index(x, key, resized(x, axis, simplify(last - first)))
        source = _written(call, inner, source, rest)
    return slice_scatter(call, x, source, axis, start, end, step)
