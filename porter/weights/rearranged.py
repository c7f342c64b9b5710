"""Where the elements of a port's tensor stand in the source's tensors, for recipes that only rearrange."""

from __future__ import annotations

from collections.abc import KeysView, Mapping

import mlx.core as mx
import numpy as np

from porter.weights.recipe_tree import Argument, Recipe, sources, walk
from porter.weights.recipe_values import evaluate
from porter.weights.tensors import TensorSpec

REARRANGING = {"source", "permute", "reshape", "concatenate", "split", "slice", "take", "cast"}
Array = np.ndarray


class _Positions:
    """Stands for tensors of given shapes: each element is its own number, counted over all tensors."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._shapes = dict(shapes)
        self.starts: dict[str, int] = {}
        self.end = 0
        for key, shape in self._shapes.items():
            self.starts[key] = self.end
            self.end += int(np.prod(shape, dtype=np.int64))

    def keys(self) -> KeysView[str]:
        return self._shapes.keys()

    def spec(self, key: str) -> TensorSpec:
        return TensorSpec("int64", self._shapes[key])

    def read(self, key: str) -> mx.array:
        shape, start = self._shapes[key], self.starts[key]
        stop = start + int(np.prod(shape, dtype=np.int64))
        return mx.array(np.arange(start, stop, dtype=np.int64).reshape(shape))

    def close(self) -> None:
        self._shapes.clear()


def scatter(
    recipe: Recipe, values: Array, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[Array, Array]] | None:
    """Source key -> (flat positions in it, the values that belong there), for what `recipe` made `values` of.

    `shapes` are those of the recipe's sources. None when the recipe computes, or the shapes do not fit.
    """
    keys = sorted(sources(recipe))
    if any(node.function not in REARRANGING for node in walk(recipe)) or not shapes.keys() >= {
        *keys
    }:
        return None
    positions = _Positions({key: tuple(shapes[key]) for key in keys})
    with mx.stream(mx.cpu):
        at = np.array(evaluate(_without_casts(recipe), positions))
    if at.shape != values.shape:
        return None
    found = {}
    for key, start in positions.starts.items():
        stop = start + int(np.prod(shapes[key], dtype=np.int64))
        own = (at >= start) & (at < stop)
        found[key] = (at[own] - start, values[own])
    return found


def _without_casts(recipe: Recipe) -> Recipe:
    """The same rearrangement; positions must not be rounded."""
    if recipe.function == "cast" and isinstance(recipe.arguments[0], Recipe):
        return _without_casts(recipe.arguments[0])
    return Recipe(recipe.function, tuple(map(_argument, recipe.arguments)))


def _argument(value: Argument) -> Argument:
    if isinstance(value, Recipe):
        return _without_casts(value)
    return tuple(map(_argument, value)) if isinstance(value, tuple) else value
