"""Padding in its modes; a negative width cuts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from porter.ir import Size, Value
from porter.ir.builder import simplify
from porter.lowering.creation import made
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering

_MODES = {"constant": None, "replicate": "edge", "reflect": "reflect"}


@lowering("aten.pad.default")
def pad(
    call: Call, x: Value, widths: Sequence[Size], mode: str = "constant", value: float | None = None
) -> Value:
    """`widths` are torch's: pairs from the last axis on."""
    pairs = [(widths[i], widths[i + 1]) for i in range(0, len(widths), 2)][::-1]
    pairs = [(0, 0)] * (x.rank - len(pairs)) + pairs
    if mode == "replicate" and any(_is_cut(width) for pair in pairs for width in pair):
        return _clamped(call, x, pairs)
    x = _cut(call, x, pairs)
    pairs = [(_positive(low), _positive(high)) for low, high in pairs]
    if all(pair == (0, 0) for pair in pairs):
        return x
    if mode == "circular":
        return _wrap(call, x, pairs)
    if mode not in _MODES:
        raise refuse(call, f"padding mode {mode!r}")
    options: dict[str, Any] = {"mode": _MODES[mode]} if _MODES[mode] else {}
    if mode == "constant" and value:
        options["constant_values"] = int(value) if x.dtype.startswith(("int", "uint")) else value
    return call.build.op("mx.pad", x, pairs, shape=call.shape, dtype=x.dtype, **options)


@lowering("aten.constant_pad_nd.default")
def constant_pad(call: Call, x: Value, widths: Sequence[Size], value: float = 0) -> Value:
    return pad(call, x, widths, "constant", value)


@lowering(
    "aten.reflection_pad1d.default",
    "aten.reflection_pad2d.default",
    "aten.reflection_pad3d.default",
)
def reflection_pad(call: Call, x: Value, widths: Sequence[Size]) -> Value:
    return pad(call, x, widths, "reflect")


@lowering(
    "aten.replication_pad1d.default",
    "aten.replication_pad2d.default",
    "aten.replication_pad3d.default",
)
def replication_pad(call: Call, x: Value, widths: Sequence[Size]) -> Value:
    return pad(call, x, widths, "replicate")


def _clamped(call: Call, x: Value, pairs: Sequence[tuple[Size, Size]]) -> Value:
    """Each cell at the nearest one of the input: the edges that are cut off are repeated all the same."""
    build = call.build
    for axis, (low, high) in enumerate(pairs):
        if (low, high) == (0, 0):
            continue
        size, count = x.shape[axis], call.shape[axis]
        stop = simplify(size + high)
        cells = made(call, "mx.arange", simplify(-low), stop, shape=(count,), dtype="int32")
        cells = build.op("mx.clip", cells, 0, simplify(size - 1), shape=(count,), dtype="int32")
        shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
        x = build.op("mx.take", x, cells, shape=shape, dtype=x.dtype, axis=axis)
    return x


def _positive(width: Size) -> Size:
    return max(width, 0) if isinstance(width, int) else width


def _cut(call: Call, x: Value, pairs: Sequence[tuple[Size, Size]]) -> Value:
    """Negative widths as slices."""
    key = [
        slice(-low if _is_cut(low) else None, high if _is_cut(high) else None)
        for low, high in pairs
    ]
    if all(part == slice(None) for part in key):
        return x
    while key[-1] == slice(None):
        key.pop()
    shape = [
        simplify(size + (low if _is_cut(low) else 0) + (high if _is_cut(high) else 0))
        for size, (low, high) in zip(x.shape, pairs, strict=True)
    ]
    return call.build.index(x, key, shape)


def _is_cut(width: Size) -> bool:
    return isinstance(width, int) and width < 0


def _wrap(call: Call, x: Value, pairs: Sequence[tuple[Size, Size]]) -> Value:
    """Each axis between its own end and beginning."""
    for axis, (low, high) in enumerate(pairs):
        whole, parts = [slice(None)] * axis, [x]
        for width, key, position in (
            (low, slice(-low, None), 0),
            (high, slice(None, high), len(parts)),
        ):
            if width == 0:
                continue
            shape = tuple(width if a == axis else size for a, size in enumerate(x.shape))
            parts.insert(
                0 if position == 0 else len(parts), call.build.index(x, (*whole, key), shape)
            )
        if len(parts) > 1:
            shape = tuple(
                simplify(size + low + high) if a == axis else size for a, size in enumerate(x.shape)
            )
            x = call.build.op("mx.concatenate", parts, shape=shape, dtype=x.dtype, axis=axis)
    return x
