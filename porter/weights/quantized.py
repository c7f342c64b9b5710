"""Tensors of which some are quantized while they are read: one layer at a time, nothing is kept."""

from __future__ import annotations

from collections.abc import KeysView, Mapping

import mlx.core as mx

from porter.weights.quantization import Quantization
from porter.weights.tensors import Tensors, TensorSpec, dtype_name, mlx_dtype

#: What mx.quantize gives, in its order; only affine has biases.
PARTS = ("weight", "scales", "biases")


class QuantizedTensors:
    """`tensors`, with LAYER.weight packed and LAYER.scales (and LAYER.biases) beside it for each of `layers`."""

    def __init__(self, tensors: Tensors, layers: Mapping[str, Quantization]) -> None:
        self._tensors = tensors
        self._layers = dict(layers)
        self._keys: dict[str, tuple[str, int] | None] = {}
        for key in tensors.keys():  # noqa: SIM118 (Tensors is no dict)
            layer = key.removesuffix(".weight")
            if layer == key or layer not in self._layers:
                self._keys[key] = None
                continue
            for index in range(3 if self._layers[layer].mode == "affine" else 2):
                self._keys[f"{layer}.{PARTS[index]}"] = (layer, index)
        self._last: tuple[str, tuple[mx.array, ...]] = ("", ())

    def keys(self) -> KeysView[str]:
        return self._keys.keys()

    def spec(self, key: str) -> TensorSpec:
        place = self._keys.get(key)
        if place is None:
            return self._tensors.spec(key)
        layer, index = place
        dense = self._tensors.spec(f"{layer}.weight")
        part = self._quantized(layer, mx.zeros(dense.shape, mlx_dtype(dense.dtype)))[index]
        return TensorSpec(dtype_name(part.dtype), tuple(part.shape))  # lazy: nothing is computed

    def read(self, key: str) -> mx.array:
        place = self._keys.get(key)
        if place is None:
            return self._tensors.read(key)
        layer, index = place
        if self._last[0] != layer:
            self._last = ("", ())  # freed before the next is read
            self._last = (layer, self._quantized(layer, self._tensors.read(f"{layer}.weight")))
        return self._last[1][index]

    def close(self) -> None:
        self._last = ("", ())
        self._tensors.close()

    def _quantized(self, layer: str, weight: mx.array) -> tuple[mx.array, ...]:
        how = self._layers[layer]
        return tuple(mx.quantize(weight, how.group_size, how.bits, mode=how.mode))
