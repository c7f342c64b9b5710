"""Example inputs read from .npy, .npz and .safetensors files; none of them can run code here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from porter.errors import InputError

FILE_SUFFIXES = (".npy", ".npz", ".safetensors")


def read_array(path: Path, name: str) -> torch.Tensor:
    """The array in `path`: the one called `name`, or the only one.

    Raises InputError when the file is missing or damaged, or holds no such array.
    """
    if not path.is_file():
        raise InputError(f"--input {name}: {path} does not exist; check the path")
    try:
        match path.suffix.lower():
            case ".npy":
                # Mapping the file first makes a header that claims more than the file holds an error.
                return _to_torch(np.load(path, mmap_mode="r", allow_pickle=False))
            case ".npz":
                with np.load(path, allow_pickle=False) as archive:
                    return _to_torch(archive[_choose(path, name, archive.files)])
            case _:
                from safetensors import safe_open

                with safe_open(path, framework="pt") as tensors:
                    tensor: torch.Tensor = tensors.get_tensor(
                        _choose(path, name, list(tensors.keys()))
                    )
                    return tensor
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"--input {name}: {path} cannot be read ({_first_line(error)}); save it again with numpy or safetensors"
        ) from error


def _to_torch(array: Any) -> torch.Tensor:
    # torch takes only the machine's byte order and positive strides.
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _choose(path: Path, name: str, keys: list[str]) -> str:
    if name in keys:
        return name
    if len(keys) == 1:
        return keys[0]
    raise InputError(
        f"--input {name}: {path} holds {', '.join(sorted(keys)) or 'no arrays'} and not {name!r}; "
        "save the array under the input's name"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
