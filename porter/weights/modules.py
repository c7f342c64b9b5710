"""Tensors that torch holds in memory: a module's state dict, or a checkpoint that only torch can unpickle."""

from __future__ import annotations

from collections.abc import KeysView, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from porter.errors import InputError, MachineError
from porter.weights.state_dicts import find_state_dict
from porter.weights.tensors import DTYPES, TensorSpec, to_mlx

if TYPE_CHECKING:
    import torch


class ModuleTensors:
    """The tensors of a state dict (or any dict of torch tensors), copied one by one as they are read."""

    def __init__(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        self._tensors = dict(state_dict)

    def keys(self) -> KeysView[str]:
        return self._tensors.keys()

    def spec(self, key: str) -> TensorSpec:
        tensor = self._tensor(key)
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in DTYPES:
            raise InputError(
                f"the tensor {key!r} is {tensor.dtype}, which porter cannot read: cast it."
            )
        return TensorSpec(dtype, tuple(tensor.shape))

    def read(self, key: str) -> mx.array:
        spec = self.spec(key)
        raw_type = DTYPES[spec.dtype].raw
        if not DTYPES[spec.dtype].mlx:
            raise InputError(
                f"the tensor {key!r} is {spec.dtype}, which MLX does not have: cast it."
            )
        return to_mlx(_raw(key, self._tensor(key)).view(raw_type), spec.dtype)

    def close(self) -> None:
        self._tensors.clear()

    def _tensor(self, key: str) -> torch.Tensor:
        try:
            return self._tensors[key]
        except KeyError:
            raise InputError(f"the state dict has no tensor {key!r}: check the name.") from None


def _raw(key: str, tensor: torch.Tensor) -> np.ndarray:
    """The tensor's elements as integers of their size, with the tensor's strides."""
    import torch

    if tensor.is_meta:
        raise InputError(
            f"the tensor {key!r} has no data (it is on the meta device): load weights first."
        )
    plain = tensor.detach().resolve_conj().resolve_neg().cpu()
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return plain.view(integers[plain.element_size()]).numpy()


def load_with_torch(path: Path) -> ModuleTensors:
    """Any file of torch.save, by torch's own unpickler, which runs whatever code the file names."""
    try:
        import torch
    except ImportError:
        raise MachineError(f"{path} can only be read by torch: pip install torch.") from None
    try:
        root = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise InputError(f"torch cannot load {path} ({error}): check the file.") from error
    if isinstance(root, torch.nn.Module):
        root = root.state_dict()
    return ModuleTensors(find_state_dict(root, torch.Tensor, path))
