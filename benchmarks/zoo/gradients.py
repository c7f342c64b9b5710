"""Gradients of the port against torch's, over every parameter and every floating input."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import torch
from mlx.utils import tree_unflatten
from torch.utils import _pytree as pytree

from porter.compile import Port
from porter.sources import Source
from porter.validate.candidate import leaves
from porter.validate.data import permuted
from porter.validate.metrics import Array, rms
from porter.weights import recipes
from porter.weights.overlay import Overlay

#: Relative RMS error against torch in float32.
TOLERANCE = 1e-3
#: A gradient below this part of the largest one counts by that size: it is a sum that cancels.
FLOOR = 1e-3


class _Traced:
    """Tensors by key, some of them arrays that MLX differentiates by."""

    def __init__(self, stored: Any, traced: dict[str, mx.array]) -> None:
        self._stored, self._traced = stored, traced

    def keys(self) -> Any:
        return self._stored.keys()

    def spec(self, key: str) -> Any:
        return self._stored.spec(key)

    def read(self, key: str) -> mx.array:
        return self._traced[key] if key in self._traced else self._stored.read(key)

    def close(self) -> None: ...


def gradient_error(
    module: torch.nn.Module, source: Source, port: Port, model: nn.Module, inputs: list[mx.array]
) -> tuple[float, float, str] | None:
    """The worst relative RMS error of a gradient of sum(outputs * noise), torch's own against float64 there, and whose it is.

    MLX differentiates by the source's tensors, through the recipes: what a recipe permutes or joins needs no mapping. Where
    all are within TOLERANCE of torch's in float32, its own error is not worked out and given as 0. None where no real output
    has a gradient.
    """
    theirs, noise = _torch_gradients(module, source, port, inputs)
    if all(factor is None for factor in noise):
        return None
    ours = _port_gradients(source, port, model, inputs, noise, module)
    errors = _errors(ours, theirs)
    worst = max(errors, key=lambda name: errors[name], default="")
    if not worst or errors[worst] <= TOLERANCE:
        return errors.get(worst, 0.0), 0.0, worst
    try:
        truth, _ = _torch_gradients(module.double(), source, port, inputs, torch.float64)
    finally:
        module.float()
    errors, own = _errors(ours, truth), _errors(theirs, truth)
    worst = max(errors, key=lambda name: errors[name] / max(TOLERANCE, own[name]))
    return errors[worst], own[worst], worst


def _errors(found: dict[str, Array], truth: dict[str, Array]) -> dict[str, float]:
    """Relative RMS errors; what is no number in both (the slope of a power of a negative number) is equal."""
    largest = max((_rms(g) for g in truth.values()), default=0.0)
    errors = {}
    for name, gradient in truth.items():
        own = found.get(name, np.zeros_like(gradient))
        both = np.where(np.isfinite(gradient) | np.isfinite(own), own - gradient, 0.0)
        error = rms(both) / (max(_rms(gradient), FLOOR * largest) or 1.0)
        errors[name] = error if np.isfinite(error) else np.inf
    return errors


def _rms(gradient: Array) -> float:
    """Of the finite numbers."""
    return rms(np.where(np.isfinite(gradient), gradient, 0.0))


def _torch_gradients(
    module: torch.nn.Module, source: Source, port: Port, inputs: list[mx.array],
    dtype: torch.dtype = torch.float32,
) -> tuple[dict[str, Array], list[Any]]:  # fmt: skip
    """By the source's parameter names and `input NAME`, and the noise that the outputs are weighted with."""
    parameters = {  # without those that are frozen
        name: p
        for name, p in module.named_parameters()
        if p.is_floating_point() and p.requires_grad
    }
    leaves_in, spec = pytree.tree_flatten((source.args, source.kwargs))
    given = [
        (t.to(dtype) if t.dtype == torch.float32 else t).clone().requires_grad_()
        if isinstance(t, torch.Tensor) and t.is_floating_point() else t
        for t in leaves_in
    ]  # fmt: skip
    args, kwargs = pytree.tree_unflatten(given, spec)
    outputs = [
        t for t in pytree.tree_leaves(module(*args, **kwargs)) if isinstance(t, torch.Tensor)
    ]
    noise = [
        np.random.default_rng(i).standard_normal(t.shape).astype(np.float32)
        if t.is_floating_point() and t.requires_grad else None
        for i, t in enumerate(outputs)
    ]  # fmt: skip
    if all(factor is None for factor in noise):
        return {}, noise
    loss = sum(
        (t * torch.from_numpy(n)).sum()
        for t, n in zip(outputs, noise, strict=True)
        if n is not None
    )
    wanted = [
        *parameters.values(),
        *(t for t in given if isinstance(t, torch.Tensor) and t.requires_grad),
    ]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True)  # type: ignore[arg-type]
    found: dict[str, Array] = {}
    for name, gradient in zip(parameters, gradients, strict=False):
        found[name] = np.zeros(parameters[name].shape) if gradient is None else gradient.numpy()
    by_place = [g.numpy() if g is not None else None for g in gradients[len(parameters) :]]
    floating = [i for i, x in enumerate(inputs) if mx.issubdtype(x.dtype, mx.floating)]
    if len(floating) == len(by_place):
        for place, gradient in zip(floating, by_place, strict=True):
            if gradient is not None:
                name = f"input {port.inputs[place]['name']}"
                found[name] = permuted(gradient, port.inputs[place]["permute"])
    return found, noise


def _port_gradients(
    source: Source, port: Port, model: nn.Module, inputs: list[mx.array],
    noise: list[Any], module: torch.nn.Module,
) -> dict[str, Array]:  # fmt: skip
    """By the source's parameter names; those that share a tensor hold the sum."""
    keys = {
        name: source.keys.get(name, name)
        for name, p in module.named_parameters(remove_duplicate=False)
        if p.is_floating_point() or p.is_complex()
    }
    read = {key for recipe in port.recipes.values() for key in recipes.sources(recipe)}
    stored: Any = Overlay(source.tensors, port.kept)
    traced = {key: stored.read(key) for key in keys.values() if key in read}
    floating = [i for i, x in enumerate(inputs) if mx.issubdtype(x.dtype, mx.floating)]
    before = model.parameters()

    def loss(tensors: dict[str, mx.array], arrays: list[mx.array]) -> mx.array:
        table = _Traced(stored, tensors)
        weights = [(path, recipes.evaluate(recipe, table)) for path, recipe in port.recipes.items()]  # type: ignore[arg-type]
        model.update(tree_unflatten(weights))
        full = list(inputs)
        for place, array in zip(floating, arrays, strict=True):
            full[place] = array
        total = mx.array(0.0)
        for value, described, factor in zip(leaves(model(*full)), port.outputs, noise, strict=True):
            if factor is not None:
                total = total + (value * mx.array(permuted(factor, described["permute"]))).sum()
        return total

    try:
        found, at_inputs = mx.grad(loss, argnums=(0, 1))(traced, [inputs[i] for i in floating])
        mx.eval(found, at_inputs)
    finally:
        model.update(before)
    result: dict[str, Array] = {
        f"input {port.inputs[i]['name']}": np.array(g)
        for i, g in zip(floating, at_inputs, strict=True)
    }
    shared: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        shared.setdefault(id(parameter), []).append(name)
    for names in shared.values():
        parts = [np.array(found[keys[name]]) for name in names if keys.get(name) in found]
        if parts:
            result |= {name: sum(parts[1:], start=parts[0]) for name in names}
    return result
