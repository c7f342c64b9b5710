"""Fourier transforms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import pi
from typing import Any

from porter.ir import Value
from porter.lowering.axes import axes_of, axis_of
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering

ONE_AXIS = ("fft", "ifft", "rfft", "irfft")
AXES = ("fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn", "rfftn", "irfftn")


@lowering(*(f"aten.fft_{name}.default" for name in ONE_AXIS))
def transform(call: Call, x: Value, n: Any = None, dim: int = -1, norm: str | None = None) -> Value:
    function = call.name.split(".")[1].removeprefix("fft_")
    length = [] if n is None else [n]
    return call.build.op(
        f"mx.fft.{function}", _transformable(call, x), *length, shape=call.shape, dtype=call.dtype,
        axis=axis_of(dim, x.rank), **_norm(norm),
    )  # fmt: skip


@lowering(*(f"aten.fft_{name}.default" for name in AXES))
def transform_axes(
    call: Call, x: Value, s: Any = None, dim: Sequence[int] | None = None, norm: str | None = None
) -> Value:
    function = call.name.split(".")[1].removeprefix("fft_")
    if dim is None:
        count = x.rank if s is None else len(s)
        dim = (-2, -1) if function.endswith("2") else tuple(range(x.rank - count, x.rank))
    axes = tuple(axis_of(axis, x.rank) for axis in ([dim] if isinstance(dim, int) else dim))
    options: dict[str, Any] = {} if s is None else {"s": tuple(s)}
    if s is not None and -1 in options["s"]:
        raise refuse(call, "a size of -1")
    return call.build.op(
        f"mx.fft.{function.rstrip('2n')}n", _transformable(call, x), shape=call.shape, dtype=call.dtype,
        **options, axes=axes, **_norm(norm),
    )  # fmt: skip


def _norm(norm: str | None) -> dict[str, Any]:
    return {} if norm in (None, "backward") else {"norm": norm}


def _transformable(call: Call, x: Value) -> Value:
    """Whole numbers as floats."""
    return x if x.dtype in ("float32", "complex64") else call.build.cast(x, "float32")


@lowering("aten.fft_hfft.default", "aten.fft_ihfft.default")
def hermitian(call: Call, x: Value, n: Any = None, dim: int = -1, norm: str | None = None) -> Value:
    return _hermitian(call, x, norm, lambda *args: transform(*args[:2], n, dim, args[2]))


@lowering(*(f"aten.fft_{name}.default" for name in ("hfft2", "ihfft2", "hfftn", "ihfftn")))
def hermitian_axes(
    call: Call, x: Value, s: Any = None, dim: Any = None, norm: str | None = None
) -> Value:
    return _hermitian(call, x, norm, lambda *args: transform_axes(*args[:2], s, dim, args[2]))


def _hermitian(call: Call, x: Value, norm: str | None, real: Callable[..., Value]) -> Value:
    """The real transform of the other direction, conjugated."""
    other = {None: "forward", "backward": "forward", "forward": "backward", "ortho": "ortho"}[norm]
    build = call.build
    x = _transformable(call, x)
    if "ihfft" in call.name:
        result = real(replace(call, name=call.name.replace("ihfft", "rfft")), x, other)
        return build.op("mx.conjugate", result, shape=call.shape, dtype=call.dtype)
    x = build.op("mx.conjugate", x, shape=x.shape, dtype=x.dtype)
    return real(replace(call, name=call.name.replace("hfft", "irfft")), x, other)


@lowering("aten.fft_fftshift.default", "aten.fft_ifftshift.default")
def shift(call: Call, x: Value, dim: Any = None) -> Value:
    op = "mx.fft.ifftshift" if "ifftshift" in call.name else "mx.fft.fftshift"
    axes = axes_of(dim, x.rank)
    return call.build.op(op, x, shape=x.shape, dtype=x.dtype, axes=axes)


@lowering("aten.stft.default")
def stft(
    call: Call, x: Value, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
    window: Value | None = None, normalized: bool = False, onesided: bool | None = None,
    return_complex: bool | None = None, align_to_window: bool | None = None,
) -> Value:  # fmt: skip
    """Frames without padding: torch pads before, where it is asked to centre them."""
    if align_to_window:
        raise refuse(call, "align_to_window")
    if not return_complex:
        inner = replace(call, outputs=[(call.shape[:-1], "complex64")])
        arguments = (x, n_fft, hop_length, win_length, window, normalized, onesided, True)
        return view_as_real(call, stft(inner, *arguments))
    length = win_length or n_fft
    build = call.build
    if window is not None and length < n_fft:
        left = (n_fft - length) // 2
        width = [(left, n_fft - length - left)]
        window = build.op("mx.pad", window, width, shape=(n_fft,), dtype=window.dtype)
    options: dict[str, Any] = {} if window is None else {"window": window}
    if window is None and length < n_fft:
        raise refuse(call, "a window of ones that is shorter than the frame")
    if normalized:
        options["norm"] = "ortho"
    if onesided is False or (onesided is None and x.dtype == "complex64"):
        options["onesided"] = False
    return build.op(
        "fn.stft", x, n_fft, hop_length or n_fft // 4, shape=call.shape, dtype=call.dtype, **options
    )


@lowering("aten.istft.default")
def istft(
    call: Call, x: Value, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
    window: Value | None = None, center: bool = True, normalized: bool = False, onesided: bool | None = None,
    length: int | None = None, return_complex: bool = False,
) -> Value:  # fmt: skip
    size = win_length or n_fft
    if window is None or size != n_fft or onesided is False or return_complex:
        raise refuse(call, "no window, one shorter than the frame, or a complex signal")
    options: dict[str, Any] = {"norm": "ortho"} if normalized else {}
    if not center:
        options["center"] = False
    if length is not None:
        options["length"] = length
    return call.build.op(
        "fn.istft", x, n_fft, hop_length or n_fft // 4, window, shape=call.shape, dtype=call.dtype, **options
    )  # fmt: skip


@lowering("aten.view_as_complex.default", "aten.view_as_complex_copy.default")
def view_as_complex(call: Call, x: Value) -> Value:
    parts = [call.build.index(x, (Ellipsis, part), x.shape[:-1]) for part in (0, 1)]
    return complex_of(call, *parts)


@lowering("aten.complex.default")
def complex_of(call: Call, real: Value, imaginary: Value) -> Value:
    second = call.build.op("*", 1j, imaginary, shape=imaginary.shape, dtype="complex64")
    return call.build.op("+", real, second, shape=call.shape, dtype="complex64")


@lowering("aten.polar.default")
def polar(call: Call, size: Value, angle: Value) -> Value:
    parts = [
        call.build.op("*", size, call.build.op(op, angle), shape=call.shape, dtype=size.dtype)
        for op in ("mx.cos", "mx.sin")
    ]
    return complex_of(call, *parts)


@lowering("aten.view_as_real.default", "aten.view_as_real_copy.default")
def view_as_real(call: Call, x: Value) -> Value:
    parts = [call.build.op(op, x, shape=x.shape, dtype=call.dtype) for op in ("mx.real", "mx.imag")]
    return call.build.op("mx.stack", parts, shape=call.shape, dtype=call.dtype, axis=x.rank)


@lowering("aten.angle.default")
def angle(call: Call, x: Value) -> Value:
    build = call.build
    if x.dtype != "complex64":
        negative = build.op("<", x, 0, shape=x.shape, dtype="bool")
        return build.cast(
            build.op("mx.where", negative, pi, 0.0, shape=x.shape, dtype="float32"), call.dtype
        )
    parts = [build.op(op, x, shape=x.shape, dtype=call.dtype) for op in ("mx.imag", "mx.real")]
    return build.op("mx.arctan2", *parts, shape=x.shape, dtype=call.dtype)


@lowering(
    "aten._conj.default",
    "aten.conj.default",
    "aten.conj_physical.default",
    "aten._conj_physical.default",
)
def conjugate(call: Call, x: Value) -> Value:
    if x.dtype != "complex64":
        return x
    return call.build.op("mx.conjugate", x, shape=x.shape, dtype=x.dtype)


@lowering("aten.real.default", "aten.imag.default")
def part(call: Call, x: Value) -> Value:
    if x.dtype != "complex64":
        return x
    return call.build.op(
        "mx.real" if "real" in call.name else "mx.imag", x, shape=call.shape, dtype=call.dtype
    )
