"""Constants that the graph holds and no checkpoint does, beside the checkpoint's tensors."""

from __future__ import annotations

from collections.abc import Iterable, KeysView, Mapping

import mlx.core as mx
import numpy as np

from porter.weights.recipe_tree import Recipe, sources
from porter.weights.tensors import Tensors, TensorSpec

#: Keys of constants start with this; the rest is the parameter's path in the port.
PREFIX = "porter.kept:"


class Overlay:
    """The checkpoint's tensors and, under keys that start with PREFIX, the constants `kept`."""

    def __init__(self, tensors: Tensors, kept: Mapping[str, np.ndarray]) -> None:
        self._tensors = tensors
        self._kept = {
            f"{PREFIX}{path}": np.asarray(array, order="C") for path, array in kept.items()
        }

    def keys(self) -> KeysView[str]:
        return {**dict.fromkeys(self._tensors.keys()), **dict.fromkeys(self._kept)}.keys()

    def spec(self, key: str) -> TensorSpec:
        if key in self._kept:
            array = self._kept[key]
            return TensorSpec(str(array.dtype), tuple(array.shape))
        return self._tensors.spec(key)

    def read(self, key: str) -> mx.array:
        return mx.array(self._kept[key]) if key in self._kept else self._tensors.read(key)

    def close(self) -> None:
        self._tensors.close()


def stored_constants(port: Tensors, recipes: Iterable[Recipe]) -> dict[str, np.ndarray]:
    """The constants that the recipes name, as the tensors of the port they were made for hold them.

    bfloat16, which NumPy lacks, comes as float32.
    """
    keys = {key for recipe in recipes for key in sources(recipe)}
    found = {}
    for path in sorted(key.removeprefix(PREFIX) for key in keys if key.startswith(PREFIX)):
        value = port.read(path)
        found[path] = np.array(value.astype(mx.float32) if value.dtype == mx.bfloat16 else value)
    return found
