"""One safetensors file: its header is checked in full, its tensors are read one by one.

Format: https://github.com/huggingface/safetensors#format. Eight bytes hold the header's length, then come the
header (JSON: name -> dtype, shape, data_offsets) and the data, which the tensors must cover without hole or overlap.
"""

from __future__ import annotations

import json
import math
from collections.abc import KeysView
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from porter.errors import InputError
from porter.weights.files import FileBytes, check_key, damaged
from porter.weights.tensors import DTYPES, LONGEST_AXIS, MOST_AXES, TensorSpec, to_mlx

LONGEST_HEADER = 100_000_000  # the limit of the reference implementation
BY_NAME = {dtype.safetensors: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies: `begin` counts from the file's first byte."""

    spec: TensorSpec
    begin: int


class SafetensorsFile:
    """The tensors of one safetensors file; `metadata` is its __metadata__."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = FileBytes(path)
        try:
            header, start = _read_header(self._bytes)
            self.metadata: dict[str, str] = _metadata(path, header.pop("__metadata__", {}))
            self._entries = {
                check_key(path, key): _entry(path, key, value, start)
                for key, value in header.items()
            }
            _check_cover(self._bytes, self._entries, start)
        except InputError:
            self._bytes.close()
            raise

    def keys(self) -> KeysView[str]:
        return self._entries.keys()

    def spec(self, key: str) -> TensorSpec:
        return self._entry(key).spec

    def read(self, key: str) -> mx.array:
        spec, begin = self._entry(key).spec, self._entry(key).begin
        dtype = DTYPES[spec.dtype]
        if not dtype.mlx:
            raise InputError(f"{self.path}: {key!r} is {spec.dtype}, which MLX does not have.")
        raw = self._bytes.read(begin, spec.nbytes)
        return to_mlx(raw.view("<" + dtype.raw).reshape(spec.shape), spec.dtype)

    def close(self) -> None:
        self._bytes.close()

    def _entry(self, key: str) -> Entry:
        try:
            return self._entries[key]
        except KeyError:
            raise InputError(f"{self.path} has no tensor {key!r}: check the name.") from None


def _read_header(data: FileBytes) -> tuple[dict, int]:
    """The header as a dict, and the offset of the first data byte."""
    if data.size < 8:
        raise damaged(data.path, f"{data.size} bytes are too few for a safetensors file")
    length = int.from_bytes(data.read(0, 8).tobytes(), "little")
    if length > min(LONGEST_HEADER, data.size - 8):
        raise damaged(data.path, f"it claims a header of {length} bytes and has {data.size - 8}")
    try:
        header = json.loads(data.read(8, length).tobytes().decode(), object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise damaged(data.path, f"its safetensors header is not proper JSON ({error})") from error
    if not isinstance(header, dict):
        raise damaged(data.path, "its safetensors header is not a JSON object")
    return header, 8 + length


def _no_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _metadata(path: Path, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise damaged(path, "__metadata__ in its header is not a table of text")
    return value


def _entry(path: Path, key: str, value: object, start: int) -> Entry:
    """One header entry, checked by itself."""
    try:
        name, shape, (begin, end) = value["dtype"], value["shape"], value["data_offsets"]  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        raise damaged(path, f"the header entry of {key!r} is not complete") from None
    if not isinstance(name, str) or name not in BY_NAME:
        raise InputError(
            f"{path}: {key!r} has the element type {name!r}, which porter cannot read."
        )
    if not isinstance(shape, list) or not all(map(_is_count, [*shape, begin, end])):
        raise damaged(path, f"shape or offsets of {key!r} are not whole numbers")
    if len(shape) > MOST_AXES or any(n >= LONGEST_AXIS for n in shape):
        raise damaged(path, f"the shape of {key!r} is larger than any tensor's")
    spec = TensorSpec(BY_NAME[name], tuple(shape))
    if end - begin != math.prod(shape) * DTYPES[spec.dtype].itemsize:
        raise damaged(path, f"{key!r} takes {end - begin} bytes, its shape {shape} {spec.nbytes}")
    return Entry(spec, start + begin)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _check_cover(data: FileBytes, entries: dict[str, Entry], start: int) -> None:
    """The tensors lie one behind the other, from the header's end to the file's."""
    position = start
    for key, entry in sorted(
        entries.items(), key=lambda item: (item[1].begin, item[1].spec.nbytes)
    ):
        if entry.begin != position:
            what = "overlaps another" if entry.begin < position else "leaves a hole before it"
            raise damaged(data.path, f"the tensor {key!r} {what}")
        position += entry.spec.nbytes
    if position != data.size:
        raise damaged(data.path, f"its tensors end at byte {position}, the file at {data.size}")
