"""Buffers that no checkpoint holds and the port stores, rounded to its dtype: which ones these are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from porter.validate.metrics import Array
from porter.weights.mapping import Mapping
from porter.weights.overlay import stored_constants
from porter.weights.readers import open_tensors


def kept_buffers(module: torch.nn.Module, directory: str, dtype: torch.dtype) -> set[str]:
    """Names of the module's unsaved floating buffers that are, rounded to `dtype`, among the port's constants.

    A port tells no names for them, so they are known by their values, in any order.
    """
    file = Path(directory) / "mapping.toml"
    if not directory or not file.is_file():
        return set()
    tensors = open_tensors(directory)
    constants = stored_constants(tensors, Mapping.load(file).tensors.values()).values()
    tensors.close()
    saved = module.state_dict().keys()
    return {
        name
        for name, buffer in module.named_buffers()
        if name not in saved
        and buffer.is_floating_point()
        and _is_among(buffer.detach().to(dtype).float().numpy(), constants)
    }


def _is_among(values: Array, constants: Iterable[Array]) -> bool:
    own = np.sort(values, axis=None)
    return any(c.size == own.size and np.array_equal(np.sort(c, axis=None), own) for c in constants)
