"""A zip checkpoint of torch.save (.pt, .pth, .bin, .ckpt) or TorchScript, read without torch.

The archive holds one pickle, PREFIX/data.pkl, and one uncompressed file for each storage, PREFIX/data/KEY. A tensor
is a strided view of a storage; several may share one. Only the bytes that a view spans are read.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import KeysView
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from porter.errors import InputError
from porter.weights.files import FileBytes, damaged
from porter.weights.pickle_program import RefusedError, run_pickle
from porter.weights.state_dicts import find_state_dict
from porter.weights.tensors import DTYPES, LONGEST_AXIS, MOST_AXES, TensorSpec, to_mlx
from porter.weights.torch_globals import ElementType, Storage, StoredTensor, find_global

LARGEST_PICKLE = 2**30
# What zipfile raises for a damaged archive, as found by mutating one.
BAD_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
)
LARGEST_EXPANSION = 2**31  # bytes that a view may have beyond its storage (strides of 0)


class TorchArchive:
    """The tensors of a zip checkpoint, by their names in its state dict."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = FileBytes(path)
        try:
            self._zip = _open_zip(path, self._bytes)
            self._prefix = _prefix(path, self._zip)
            self._swapped = self._byte_order() == "big"
            self._tensors = find_state_dict(self._unpickle(), StoredTensor, path)
        except BaseException:
            self._bytes.close()
            raise

    def keys(self) -> KeysView[str]:
        return self._tensors.keys()

    def spec(self, key: str) -> TensorSpec:
        tensor = self._tensor(key)
        _check_view(self.path, key, tensor)
        return TensorSpec(tensor.dtype, tensor.shape)

    def read(self, key: str) -> mx.array:
        spec, tensor = self.spec(key), self._tensor(key)
        dtype = DTYPES[spec.dtype]
        if not dtype.mlx:
            raise InputError(f"{self.path}: {key!r} is {spec.dtype}, which MLX does not have.")
        start, stop = _span(tensor)
        begin = self._locate(key, tensor.storage)
        raw = self._bytes.read(begin + start * dtype.itemsize, (stop - start) * dtype.itemsize)
        flat = raw.view((">" if self._swapped else "<") + dtype.raw)
        if self._swapped:
            flat = flat.astype(dtype.raw)
        strides = tuple(n * dtype.itemsize for n in tensor.stride)
        view = np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False)
        return to_mlx(view, spec.dtype)

    def close(self) -> None:
        self._zip.close()
        self._bytes.close()

    def _tensor(self, key: str) -> StoredTensor:
        try:
            return self._tensors[key]
        except KeyError:
            raise InputError(f"{self.path} has no tensor {key!r}: check the name.") from None

    def _byte_order(self) -> str:
        name = f"{self._prefix}/byteorder"
        return (
            _member(self.path, self._zip, name).decode("ascii", "replace")
            if self._has(name)
            else "little"
        )

    def _has(self, name: str) -> bool:
        return name in self._zip.NameToInfo

    def _unpickle(self) -> Any:
        program = _member(self.path, self._zip, f"{self._prefix}/data.pkl")
        torchscript = self._has(f"{self._prefix}/constants.pkl")
        try:
            return run_pickle(
                program, lambda module, name: find_global(module, name, torchscript), _storage
            )
        except RefusedError as refused:
            raise InputError(
                f"{self.path} needs {refused.name[:200]!r}, which porter does not run from a checkpoint: "
                "save its state_dict alone, or pass --trust-pickle if you trust whoever made it."
            ) from None
        except ValueError as error:
            raise damaged(self.path, f"its pickle cannot be read ({error})") from error

    def _locate(self, key: str, storage: Storage) -> int:
        """The file offset of the storage's first byte."""
        try:
            info = self._zip.getinfo(f"{self._prefix}/data/{storage.key}")
        except KeyError:
            raise damaged(self.path, f"the storage of {key!r} is missing") from None
        if info.compress_type != zipfile.ZIP_STORED:
            raise damaged(self.path, f"the storage of {key!r} is compressed")
        if info.file_size < storage.count * DTYPES[storage.dtype or "uint8"].itemsize:
            raise damaged(self.path, f"the storage of {key!r} is shorter than it claims")
        local = self._bytes.read(info.header_offset, 30).tobytes()
        if local[:4] != b"PK\x03\x04":
            raise damaged(self.path, f"the storage of {key!r} is not where the archive says")
        return (
            info.header_offset
            + 30
            + int.from_bytes(local[26:28], "little")
            + int.from_bytes(local[28:30], "little")
        )


def _open_zip(path: Path, data: FileBytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except BAD_ZIP as error:
        raise damaged(
            path, f"its zip directory cannot be read ({error}), at {data.size} bytes"
        ) from error


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """A small file of the archive; InputError when it is damaged, or unpacks to more than is sensible."""
    if archive.getinfo(name).file_size > LARGEST_PICKLE:
        raise damaged(path, f"{name} claims {archive.getinfo(name).file_size} bytes")
    try:
        return archive.read(name)
    except BAD_ZIP as error:
        raise damaged(path, f"{name} in it cannot be read ({error})") from error


def _prefix(path: Path, archive: zipfile.ZipFile) -> str:
    """The folder in the archive that holds data.pkl."""
    found = [n[: -len("/data.pkl")] for n in archive.namelist() if n.endswith("/data.pkl")]
    if len(found) != 1:
        raise InputError(
            f"{path} is a zip archive and not a torch checkpoint (it has {len(found)} data.pkl): "
            "give a file that torch.save wrote."
        )
    return found[0]


def _storage(identity: Any) -> Storage:
    """The storage that a persistent id names: ("storage", type, key, location, count)."""
    kind, element, key, _, count = identity
    if kind != "storage" or not isinstance(element, ElementType) or not isinstance(key, str):
        raise ValueError("a persistent id that is not a storage")
    if type(count) is not int or count < 0:
        raise ValueError("a storage of no proper size")
    return Storage(key, element.name, count)


def _span(tensor: StoredTensor) -> tuple[int, int]:
    """The first element of the storage that the view touches, and the one behind its last."""
    if 0 in tensor.shape:
        return 0, 0
    reach = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride, strict=True))
    return tensor.offset, tensor.offset + reach + 1


def _check_view(path: Path, key: str, tensor: StoredTensor) -> None:
    """The view lies within its storage and is not absurdly larger than it."""
    if len(tensor.shape) != len(tensor.stride) or len(tensor.shape) > MOST_AXES:
        raise damaged(path, f"{key!r} has shape {tensor.shape} with strides {tensor.stride}")
    if (
        min((tensor.offset, *tensor.shape, *tensor.stride)) < 0
        or max(tensor.shape, default=0) >= LONGEST_AXIS
    ):
        raise damaged(path, f"{key!r} has a negative or absurd offset, shape or stride")
    if tensor.dtype not in DTYPES:
        raise damaged(path, f"{key!r} has no element type")
    held = tensor.storage.count * DTYPES[tensor.storage.dtype or "uint8"].itemsize
    size = DTYPES[tensor.dtype].itemsize
    if _span(tensor)[1] * size > held:
        raise damaged(path, f"{key!r} reaches beyond its storage")
    if TensorSpec(tensor.dtype, tensor.shape).nbytes > held + LARGEST_EXPANSION:
        raise damaged(path, f"{key!r} is expanded to {tensor.shape} from {held} bytes")
