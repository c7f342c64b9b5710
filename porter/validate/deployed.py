"""What DIR holds, read without torch or MLX: porter.json, the weights' dtype, the mapping."""

from __future__ import annotations

import json
import os
import struct
from collections import Counter
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from porter.errors import InputError

DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float32"}
MAX_HEADER = 100 * 2**20


@dataclass(frozen=True, slots=True)
class Deployed:
    """A converted model's folder, as far as the parent process needs it."""

    directory: Path
    porter: dict[str, Any]
    dtype: str
    quantized: bool
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    entries: list[dict[str, Any]]
    spec: str
    options: dict[str, Any] = field(default_factory=dict)


def read(directory: str | Path) -> Deployed:
    """Reads and checks DIR; raises InputError where it is not porter's."""
    directory = Path(directory)
    try:
        porter = json.loads((directory / "porter.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{directory} has no readable porter.json ({error.strerror}); "
            "name a folder that porter convert wrote."
        ) from error
    except ValueError as error:
        raise InputError(f"{directory}/porter.json is not JSON: {error}.") from error
    if not isinstance(porter, dict) or not isinstance(porter.get("proof", {}), dict):
        raise InputError(f"{directory}/porter.json is not an object that porter wrote.")
    source = porter.get("source") or ""
    options = porter.get("options") or porter.get("proof", {}).get("options") or {}
    if isinstance(source, dict):
        source, options = source.get("spec", ""), source.get("options") or options
    dtype, quantized = weights_dtype(directory)
    return Deployed(
        directory, porter, dtype, quantized,
        _described(porter, "inputs"), _described(porter, "outputs"),
        _entries(porter), str(source), dict(options),
    )  # fmt: skip


def _described(porter: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = porter.get(key)
    good = isinstance(rows, list) and all(
        isinstance(r, dict)
        and isinstance(r.get("name"), str)
        and isinstance(r.get("shape"), list)
        and _is_permute(r.get("permute"))
        for r in rows
    )
    if not good:
        raise InputError(f"porter.json's {key!r} is no list of name, dtype, shape and permute.")
    return list(rows or [])


def _entries(porter: dict[str, Any]) -> list[dict[str, Any]]:
    rows = (porter.get("proof") or {}).get("modules") or []
    for row in rows:
        if not _is_entry(row):
            raise InputError(f"porter.json's proof.modules has a damaged entry: {str(row)[:120]}")
    return list(rows)


def _is_entry(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("path"), str):
        return False
    inputs, outputs = row.get("inputs"), row.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or not outputs:
        return False
    named = all(isinstance(o, dict) and isinstance(o.get("value"), str) for o in outputs)
    return named and all(
        isinstance(v, dict)
        and (isinstance(v.get("value"), str) or "const" in v)
        and _is_permute(v.get("permute"))
        for v in [*inputs, *outputs]
    )


def _is_permute(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and sorted(map(str, value)) == sorted(map(str, range(len(value))))
    )


def weights_dtype(directory: Path) -> tuple[str, bool]:
    """The float dtype that most weights have, and whether any are quantized."""
    sizes: Counter[str] = Counter()
    quantized = False
    for file in sorted(directory.glob("*.safetensors")):
        header = _header(file)
        for name, spec in header.items():
            if name != "__metadata__" and spec.get("dtype") in DTYPES:
                sizes[DTYPES[spec["dtype"]]] += prod(spec["shape"])
            stem, _, last = name.rpartition(".")
            quantized |= last == "scales" and f"{stem}.weight" in header
    return (sizes.most_common(1)[0][0] if sizes else "float32"), quantized


def _header(file: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: 8 bytes of length, little endian, then the JSON."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > MAX_HEADER:
                raise ValueError(f"a header of {length} bytes")
            return dict(json.loads(stream.read(length)))
    except (OSError, ValueError, struct.error, TypeError) as error:
        raise InputError(f"{file} is no safetensors file: {error}.") from error


def consumed(directory: Path) -> set[str] | None:
    """The checkpoint tensors that mapping.toml reads, or says why not; None without a mapping."""
    file = directory / "mapping.toml"
    if not file.exists():
        return None
    from porter.weights.mapping import Mapping
    from porter.weights.recipes import sources

    mapping = Mapping.load(file)
    found = set(mapping.ignored)
    for recipe in mapping.tensors.values():
        found |= set(sources(recipe))
    return found


def write_atomically(file: Path, text: str) -> None:
    """Written beside, synced, renamed."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
