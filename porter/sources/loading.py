"""Puts checkpoint tensors into a module, one at a time."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch

from porter.weights.readers import Tensors


def read_torch(tensors: Tensors, key: str) -> torch.Tensor:
    """The tensor `key` as a torch CPU tensor of its own, in the checkpoint's dtype."""
    import mlx.core as mx  # numpy has no bfloat16: only here does a source touch MLX

    array: Any = tensors.read(key)
    dtype = tensors.spec(key).dtype
    if dtype.startswith("float8"):  # MLX carries the codes as bytes
        return torch.from_numpy(np.array(array)).view(getattr(torch, dtype))
    if array.dtype == mx.bfloat16:
        return torch.from_numpy(np.array(array.view(mx.uint16, stream=mx.cpu))).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def load_into(module: torch.nn.Module, tensors: Tensors, keys: dict[str, str]) -> None:
    """Sets every parameter and buffer of `module` that `keys` names, cast to the dtype it has there.

    One on the meta device becomes real; tied ones stay tied.
    """
    places: dict[int, list[tuple[dict[str, Any], str, str]]] = defaultdict(list)
    for path, owner in module.named_modules(remove_duplicate=True):
        for slot in (owner._parameters, owner._buffers):
            for name, tensor in slot.items():
                full = f"{path}.{name}" if path else name
                if tensor is not None:
                    places[id(tensor)].append((slot, name, full))
    with torch.no_grad():
        for group in places.values():
            slot, name, _ = group[0]
            key = next((keys[full] for _, _, full in group if full in keys), None)
            if key is None:
                continue
            old = slot[name]
            value = read_torch(tensors, key).reshape(old.shape).to(old.dtype)
            if old.device.type != "meta":
                old.copy_(value)
                continue
            new = (
                torch.nn.Parameter(value, old.requires_grad)
                if isinstance(old, torch.nn.Parameter)
                else value
            )
            for slot, name, _ in group:
                slot[name] = new
