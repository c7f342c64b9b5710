"""Which module is to blame, and which known mistake explains it.

A failing leaf is guilty. A failing block whose parts pass has a wiring, residual or mask bug; a
block with failing parts is a victim. For a guilty leaf the usual mistakes are tried in numpy, in
float64, on the reference's own data, and named only if one reproduces the port or the reference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from porter.report import ModuleResult
from porter.validate.metrics import Array, error

#: The culprit where every module passes and an output fails.
MODEL = "(model)"
WIRING = "its parts pass: wiring, residual or mask"
EPS = (1e-12, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
#: A hypothesis fits if it is this close to the reference: float32 weights and inputs.
FITS = 1e-5


def culprits(modules: list[ModuleResult], leafs: set[str]) -> tuple[list[str], list[ModuleResult]]:
    """Guilty paths in the order of the model, and the modules with the wiring hint added."""
    failed = {m.path for m in modules if m.verdict == "fail"}
    guilty, hinted = [], []
    for module in modules:
        if module.path in failed and not any(_within(p, module.path) for p in failed):
            guilty.append(module.path)
            parts = any(_within(m.path, module.path) for m in modules)
            if module.path not in leafs and parts and not module.hint:
                module = replace(module, hint=WIRING)
        hinted.append(module)
    return guilty, hinted


def _within(path: str, parent: str) -> bool:
    return path != parent and (parent == "" or path.startswith(parent + "."))


def hint(
    cls: str,
    x: Array,
    truth: Array,
    own: Array | None,
    weights: dict[str, Array],
    attributes: dict[str, Any],
) -> str:
    """The known mistake that explains a guilty leaf, or "".

    `x`, `truth` and `own` are in the MLX side's layout, `weights` are the port's.
    """
    x, truth = x.astype(np.float64), truth.astype(np.float64)
    weights = {k: v.astype(np.float64) for k, v in weights.items()}
    for words, make in hypotheses(cls, x, weights, attributes):
        z = make()
        if z.shape == truth.shape and error(z, truth) < FITS:
            return words
    if own is not None and own.shape == truth.shape:
        return difference_shape(own.astype(np.float64), truth)
    return ""


def hypotheses(
    cls: str, x: Array, weights: dict[str, Array], attributes: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Pairs of (what the port should be, what it then computes)."""
    name = cls.rpartition(".")[2].lower()
    weight, bias = weights.get("weight"), weights.get("bias")
    if "norm" in name and "batch" not in name:
        yield from _norms(name, x, weight, bias, attributes)
    elif "batchnorm" in name:
        yield from _batch_norms(x, weights, attributes)
    elif any(word in name for word in ("gelu", "silu", "relu", "activation", "swish", "act")):
        for words, activation in ACTIVATIONS.items():
            yield f"matches exactly as {words}", lambda f=activation: f(x)
    elif (
        weight is not None
        and "embed" not in name
        and weight.ndim == 2
        and weight.shape[0] == weight.shape[1] == x.shape[-1]
    ):
        shift = 0.0 if bias is None else bias
        yield "matches with its weight transposed", lambda: x @ weight + shift


def _norms(
    name: str, x: Array, weight: Array | None, bias: Array | None, attributes: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    centred = "rms" not in name
    groups = attributes.get("num_groups") if "group" in name else None
    has = attributes.get("eps")
    scales = {"": weight}
    if weight is not None:
        scales |= {
            " and 1 added to its weight": weight + 1,
            " and 1 taken from its weight": weight - 1,
        }
    eps_known = has if isinstance(has, float) else 1e-5
    for extra, scale in scales.items():
        for eps in (eps_known, *EPS):
            words = f"matches exactly with eps={eps:g}{extra}; it has {has}"
            if eps == has:
                words = f"matches exactly with{extra.removeprefix(' and')}"
            yield words, lambda e=eps, s=scale: _norm(x, s, bias, e, centred, groups)
    other = f"matches exactly {'without' if centred else 'with'} taking the mean away"
    yield other, lambda: _norm(x, weight, bias, eps_known, not centred, groups)


def _norm(
    x: Array, weight: Array | None, bias: Array | None, eps: float, centred: bool, groups: Any
) -> Array:
    shape = x.shape
    if isinstance(groups, int):  # channels last; each group over space and its channels
        x = x.reshape(shape[0], -1, groups, shape[-1] // groups)
        axes: tuple[int, ...] = (1, 3)
    else:
        axes = (-1,)
    mean = x.mean(axes, keepdims=True) if centred else 0.0
    square = ((x - mean) ** 2).mean(axes, keepdims=True)
    y = ((x - mean) / np.sqrt(square + eps)).reshape(shape)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _batch_norms(
    x: Array, weights: dict[str, Array], attributes: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    mean, var = weights.get("running_mean"), weights.get("running_var")
    if mean is None or var is None:
        return
    for eps in EPS:
        words = f"matches exactly with eps={eps:g}; it has {attributes.get('eps')}"
        scale = weights.get("weight", 1.0) / np.sqrt(var + eps)
        yield words, lambda s=scale: (x - mean) * s + weights.get("bias", 0.0)


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(x) if x.size else x


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(x / 2))


ACTIVATIONS: dict[str, Any] = {
    "GELU (erf)": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "GELU (tanh)": lambda x: (
        0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "quick GELU (x * sigmoid(1.702 x))": lambda x: x * _sigmoid(1.702 * x),
    "SiLU": lambda x: x * _sigmoid(x),
    "ReLU": lambda x: np.maximum(x, 0),
    "ReLU6": lambda x: np.clip(x, 0, 6),
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
}


def difference_shape(own: Array, truth: Array) -> str:
    """What the difference itself shows: one constant for each channel, or one factor."""
    gap = own - truth
    if gap.ndim > 1 and gap.shape[-1] > 1 and gap.size > 2 * gap.shape[-1]:
        constant = gap.reshape(-1, gap.shape[-1]).mean(0)
        if np.abs(constant).max() > 0 and error(gap, np.broadcast_to(constant, gap.shape)) < 1e-3:
            return "differs by one constant for each channel: a missing or wrong bias"
    size = float((truth * truth).sum())
    factor = float((own * truth).sum()) / size if size else 0.0
    if factor and abs(factor - 1) > 1e-5 and error(own / factor, truth) < FITS:
        return f"is {factor:.6g} times the reference: a wrong scale"
    return ""
