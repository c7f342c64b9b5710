"""Fourier transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from porter.ir import Value
from porter.lowering.axes import axis_of
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering

ONE_AXIS = ("fft", "ifft", "rfft", "irfft")
AXES = ("fft2", "ifft2", "fftn", "ifftn", "rfftn", "irfftn")


@lowering(*(f"aten.fft_{name}.default" for name in ONE_AXIS))
def transform(call: Call, x: Value, n: Any = None, dim: int = -1, norm: str | None = None) -> Value:
    function = call.name.split(".")[1].removeprefix("fft_")
    if norm not in (None, "backward"):
        raise refuse(call, f"norm={norm!r}")
    length = [] if n is None else [n]
    return call.build.op(
        f"mx.fft.{function}",
        x,
        *length,
        shape=call.shape,
        dtype=call.dtype,
        axis=axis_of(dim, x.rank),
    )


@lowering(*(f"aten.fft_{name}.default" for name in AXES))
def transform_axes(
    call: Call, x: Value, s: Any = None, dim: Sequence[int] | None = None, norm: str | None = None
) -> Value:
    function = call.name.split(".")[1].removeprefix("fft_")
    if norm not in (None, "backward") or s is not None:
        raise refuse(call, "other sizes than the input's" if s is not None else f"norm={norm!r}")
    if dim is None:
        dim = (-2, -1) if function.endswith("2") else tuple(range(x.rank))
    axes = tuple(axis_of(axis, x.rank) for axis in dim)
    return call.build.op(
        f"mx.fft.{function.rstrip('2n')}n", x, shape=call.shape, dtype=call.dtype, axes=axes
    )


@lowering("aten.real.default", "aten.imag.default")
def part(call: Call, x: Value) -> Value:
    if x.dtype != "complex64":
        return x
    return call.build.op(
        "mx.real" if "real" in call.name else "mx.imag", x, shape=call.shape, dtype=call.dtype
    )
