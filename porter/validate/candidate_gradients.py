"""The port's gradients, by the source's tensors: MLX differentiates by its parameters, and the recipes carry them back."""

from __future__ import annotations

from collections.abc import KeysView
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from porter.validate.data import permuted, restored
from porter.validate.metrics import Array, cotangent
from porter.weights.mapping import Mapping
from porter.weights.recipes import Recipe, evaluate, sources
from porter.weights.tensors import TensorSpec

Described = list[dict[str, Any]]


def gradients(
    model: nn.Module, inputs: list[mx.array], described: Described, outputs: Described,
    directory: Path, wanted: dict[str, tuple[int, ...]], values: dict[str, Array], twins: dict[str, str],
) -> tuple[dict[str, Array], dict[str, Array]]:  # fmt: skip
    """(by checkpoint key, by input name), in the source's layout.

    wanted: checkpoint key -> shape. values: the tensors that recipes don't take linearly. twins: key -> the one of `wanted`
    that is the same tensor.
    """
    from porter.validate.candidate import leaves

    floating = [i for i, x in enumerate(inputs) if mx.issubdtype(x.dtype, mx.floating)]

    def loss(arrays: list[mx.array]) -> mx.array:
        full = list(inputs)
        for place, array in zip(floating, arrays, strict=True):
            full[place] = array
        total = mx.array(0.0)
        for index, y in enumerate(leaves(model(*full))):
            if mx.issubdtype(y.dtype, mx.floating):
                permute = outputs[index].get("permute") if index < len(outputs) else None
                shape = restored(np.broadcast_to(np.float32(0), y.shape), permute).shape
                total = total + (y * mx.array(permuted(cotangent(index, shape), permute))).sum()
        return total

    by_parameter, by_input = _differentiated(model, loss, [inputs[i] for i in floating])
    table = Mapping.load(directory / "mapping.toml").tensors
    found: dict[str, mx.array] = {}
    for path, gradient in tree_flatten(by_parameter):
        for key, part in _carried(table[path], gradient, wanted, values, twins).items():
            found[key] = found[key] + part if key in found else part
        mx.eval(found)
    at_inputs = {
        described[i]["name"]: restored(np.array(g), described[i].get("permute"))
        for i, g in zip(floating, by_input, strict=True)
    }
    return {key: np.array(value) for key, value in found.items()}, at_inputs


def _differentiated(model: nn.Module, loss: Any, at: list[mx.array]) -> tuple[Any, list[mx.array]]:
    """Gradients by the model's parameters, frozen ones too, and by the inputs `at`."""
    before = model.parameters()

    floats = {
        path: value
        for path, value in tree_flatten(before)
        if mx.issubdtype(value.dtype, mx.floating)
    }

    def of_floats(flat: dict[str, mx.array], arrays: list[mx.array]) -> mx.array:
        model.update(tree_unflatten(list(flat.items())))
        return mx.array(loss(arrays))

    try:
        found, at_inputs = mx.grad(of_floats, argnums=(0, 1))(floats, at)
        mx.eval(found, at_inputs)
    finally:
        model.update(before)
    return found, at_inputs


class _Sources:
    """A recipe's sources as arrays at hand."""

    def __init__(self, arrays: dict[str, mx.array]) -> None:
        self._arrays = arrays

    def keys(self) -> KeysView[str]:
        return self._arrays.keys()

    def spec(self, key: str) -> TensorSpec:
        return TensorSpec("float32", tuple(self._arrays[key].shape))

    def read(self, key: str) -> mx.array:
        return self._arrays[key]

    def close(self) -> None: ...


def _carried(
    recipe: Recipe, gradient: mx.array, wanted: dict[str, tuple[int, ...]],
    values: dict[str, Array], twins: dict[str, str],
) -> dict[str, mx.array]:  # fmt: skip
    """What the gradient of a recipe's result is by its sources."""
    keys = sorted(sources(recipe))
    mine = [key for key in keys if twins.get(key, key) in wanted]
    if not mine or any(key not in mine and key not in values for key in keys):
        return {}
    fixed = {key: mx.array(values[key]) for key in keys if key in values}
    start = [fixed.get(key, mx.zeros(wanted[twins.get(key, key)])) for key in mine]

    def made(*arrays: mx.array) -> list[mx.array]:
        table = _Sources({**fixed, **dict(zip(mine, arrays, strict=True))})
        return [evaluate(recipe, table, "float32")]

    _, parts = mx.vjp(made, start, [gradient.astype(mx.float32)])
    found: dict[str, mx.array] = {}
    for key, part in zip(mine, parts, strict=True):
        name = twins.get(key, key)
        found[name] = found[name] + part if name in found else part
    return found
