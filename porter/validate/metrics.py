"""How far one array is from another, with the NaN and integer rules of the validation plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Beyond this magnitude a value is a fill (finfo.min masks, infinities): compared by its sign only.
SATURATED = 1e30
#: A gradient below this part of the largest one counts by that size.
GRADIENT_FLOOR = 1e-3


@dataclass(frozen=True, slots=True)
class Difference:
    """One array against its reference.

    `rms_rel` is E(z) = RMS(z - y) / RMS(y); it is infinite where the shapes, the places of NaN or of
    saturated values, or integers differ. `max_rel` is the largest |z - y| / max(|y|, RMS(y)).
    `shared_nan` counts NaN that stand in the same place on both sides: equal, but worth a word.
    """

    max_abs: float
    max_rel: float
    rms_rel: float
    cosine: float
    shared_nan: int = 0
    problem: str = ""


def broken(problem: str) -> Difference:
    """A difference that no budget covers."""
    return Difference(math.inf, math.inf, math.inf, math.nan, 0, problem)


def rms(x: Array) -> float:
    """Root mean square in float64, 0 for an empty array."""
    if x.size == 0:
        return 0.0
    flat = np.abs(x).astype(np.float64).ravel()
    peak = float(flat.max())
    if peak == 0 or not math.isfinite(peak):
        return peak
    return peak * math.sqrt(float(np.mean((flat / peak) ** 2)))


def error(z: Array, reference: Array) -> float:
    """E(z) = RMS(z - reference) / RMS(reference), as `difference` sees it."""
    return difference(z, reference).rms_rel


def difference(z: Array, reference: Array) -> Difference:
    """Compares `z` with `reference`; the reference's dtype says whether it must be exact."""
    if z.shape != reference.shape:
        return broken(f"its shape is {list(z.shape)}, the reference's is {list(reference.shape)}")
    if reference.dtype.kind in "iub":
        return _exact(z, reference)
    z = z.astype(np.complex128 if z.dtype.kind == "c" else np.float64)
    nan_z, nan_y = np.isnan(z), np.isnan(reference)
    if (nan_z != nan_y).any():
        sides = int((nan_z & ~nan_y).sum()), int((nan_y & ~nan_z).sum())
        return broken(f"NaN on one side only ({sides[0]} in the port, {sides[1]} in the reference)")
    big_z, big_y = _saturated(z), _saturated(reference)
    if (big_z != big_y).any():
        return broken("infinite or saturated values stand in different places")
    shared = int(nan_y.sum())
    keep = ~(nan_y | (big_y != 0))
    if not keep.all():
        z, reference = z[keep], reference[keep]
    gap = np.abs(z - reference)
    size = rms(reference)
    largest = float(gap.max()) if gap.size else 0.0
    relative = float((gap / np.maximum(np.abs(reference), size or 1.0)).max()) if gap.size else 0.0
    return Difference(largest, relative, rms(gap) / (size or 1.0), _cosine(z, reference), shared)


def _exact(z: Array, reference: Array) -> Difference:
    gap = np.abs(z.astype(np.float64) - reference.astype(np.float64))
    wrong = int((gap != 0).sum())
    if wrong:
        return Difference(
            float(gap.max()),
            math.inf,
            math.inf,
            math.nan,
            0,
            f"{wrong} of {gap.size} integers differ",
        )
    return Difference(0.0, 0.0, 0.0, 1.0)


def _saturated(x: Array) -> Array:
    if x.dtype.kind == "c":
        return (np.abs(x) > SATURATED).astype(np.int8)
    return np.where(np.abs(x) > SATURATED, np.sign(x), 0).astype(np.int8)


def _cosine(z: Array, y: Array) -> float:
    scale_z, scale_y = rms(z), rms(y)
    if scale_z == 0 or scale_y == 0:
        return 1.0 if scale_z == scale_y else 0.0
    product = np.vdot((y / scale_y).ravel(), (z / scale_z).ravel())
    return float(np.real(product)) / z.size


def cotangent(index: int, shape: tuple[int, ...]) -> Array:
    """Fixed noise for output `index`, float32: gradients of sum(outputs * noise) show every element of every output."""
    return np.random.default_rng(index).standard_normal(shape).astype(np.float32)


def gradient_errors(found: list[Array], exact: list[Array]) -> list[float]:
    """Relative RMS errors; a gradient far below the largest is a sum that cancels, and counts by that one's size."""
    floor = GRADIENT_FLOOR * max((rms(g) for g in exact), default=0.0)
    return [
        rms(z - y) / (max(rms(y), floor) or 1.0) if z.shape == y.shape else math.inf
        for z, y in zip(found, exact, strict=True)
    ]


def tokens(z: Array, reference: Array) -> dict[str, float]:
    """Top-1 agreement and mean KL(reference || port) of logits over the last axis."""
    left, right = reference.astype(np.float64), z.astype(np.float64)
    agree = float((left.argmax(-1) == right.argmax(-1)).mean())
    p, q = _log_softmax(left), _log_softmax(right)
    terms = np.where(np.exp(p) > 0, np.exp(p) * (p - q), 0.0)
    return {"top1_agreement": agree, "kl": float(terms.sum(-1).mean())}


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
