"""Streams recipes into safetensors files: memory follows the largest tensor, whatever the checkpoint's size."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import mlx.core as mx
import numpy as np

from porter.errors import InputError, UsageError
from porter.weights.recipes import Recipe, evaluate, sources, spec_of
from porter.weights.tensors import DTYPES, Tensors, TensorSpec

SHARD_BYTES = 5_000_000_000
MLX_METADATA = {"format": "mlx"}
Progress = Callable[[str, int, int], object]  # tensor name, bytes written, bytes in all


@dataclass(frozen=True, slots=True)
class Written:
    """What `write` wrote: file names in order, tensors, their bytes, and float16 overflows by name."""

    files: tuple[str, ...]
    tensors: int
    nbytes: int
    overflowed: tuple[str, ...]


def write(
    recipes: Mapping[str, Recipe],
    tensors: Tensors,
    directory: str | Path,
    dtype: str | None = None,
    metadata: Mapping[str, str] | None = None,
    max_shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> Written:
    """Writes model.safetensors, or numbered shards and model.safetensors.index.json, into `directory`.

    dtype: what floating tensors are rounded to; a recipe whose outermost function is a cast keeps its own. Without it
    they keep their dtype, but float64, which no MLX GPU has, becomes float32.
    Raises InputError when recipes do not fit the tensors, before anything is written; OSError when the disk fails.
    """
    directory = Path(directory)
    _, missing = check_coverage(recipes, tensors)
    if missing:
        raise InputError(
            f"the checkpoint lacks {len(missing)} tensors that are needed ({listed(missing)}): "
            "give the checkpoint that belongs to the model, or a mapping for it."
        )
    specs = {name: _target(recipe, tensors, dtype) for name, recipe in recipes.items()}
    if not specs or "__metadata__" in specs:
        raise InputError(
            "there is nothing that can be written: the mapping names no proper tensor."
        )
    shards = _shards(specs, max_shard_bytes)
    files = [
        f"model-{i:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else "model.safetensors"
        for i in range(1, len(shards) + 1)
    ]
    total, done = sum(spec.nbytes for spec in specs.values()), 0
    overflowed: list[str] = []
    for file, names in zip(files, shards, strict=True):
        with _new_file(directory / file) as out:
            out.write(_header({n: specs[n] for n in names}, {**MLX_METADATA, **(metadata or {})}))
            for name in names:
                if _write_tensor(out, recipes[name], tensors, specs[name]):
                    overflowed.append(name)
                done += specs[name].nbytes
                if progress is not None:
                    progress(name, done, total)
    if len(shards) > 1:
        _write_index(directory, dict(zip(files, shards, strict=True)), total)
    return Written(tuple(files), len(specs), total, tuple(overflowed))


def check_coverage(
    recipes: Mapping[str, Recipe], tensors: Tensors, ignored: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """(checkpoint keys that no recipe reads and `ignored` does not name, keys read but not there).

    Both are sorted. `write` refuses to run when keys are missing; unused ones are the caller's to name or to refuse.
    """
    held = set(tensors.keys())
    read = {key for recipe in recipes.values() for key in sources(recipe)}
    return sorted(held - read - set(ignored)), sorted(read - held)


def listed(keys: Collection[str], most: int = 10) -> str:
    """The first keys, and how many more there are."""
    shown = ", ".join(repr(key) for key in list(keys)[:most])
    return shown + (f" and {len(keys) - most} more" if len(keys) > most else "")


def _target(recipe: Recipe, tensors: Tensors, dtype: str | None) -> TensorSpec:
    """What is to be stored: the recipe's own dtype and shape, or `dtype` where that applies."""
    spec = spec_of(recipe, tensors)
    fixed = not DTYPES[spec.dtype].floating or recipe.function == "cast"
    wanted = spec.dtype if fixed else dtype or spec.dtype
    if wanted == "float64":
        wanted = "float32"
    if DTYPES[wanted].mlx != wanted:
        raise UsageError(f"weights cannot be stored as {wanted}: use float32, float16 or bfloat16.")
    return TensorSpec(wanted, spec.shape)


def _shards(specs: Mapping[str, TensorSpec], limit: int) -> list[list[str]]:
    """The names in order, parted so that no shard exceeds `limit` bytes unless one tensor does.

    In a shard wide elements come first, so that each tensor is aligned to its element size.
    """
    shards: list[list[str]] = [[]]
    size = 0
    for name, spec in specs.items():
        if shards[-1] and size + spec.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += spec.nbytes
    return [sorted(names, key=lambda n: -DTYPES[specs[n].dtype].itemsize) for names in shards]


def _header(specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> bytes:
    """The header of a safetensors file, with its length before it; padded to a multiple of 8."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    begin = 0
    for name, spec in specs.items():
        header[name] = {
            "dtype": DTYPES[spec.dtype].safetensors,
            "shape": list(spec.shape),
            "data_offsets": [begin, begin + spec.nbytes],
        }
        begin += spec.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_tensor(out: BinaryIO, recipe: Recipe, tensors: Tensors, spec: TensorSpec) -> bool:
    """Appends the tensor's data; True when finite values became infinite in float16."""
    narrows = spec.dtype == "float16" and spec_of(recipe, tensors).dtype != "float16"
    array = evaluate(recipe, tensors, "float32" if narrows else spec.dtype)
    overflows = False
    with mx.stream(mx.cpu):
        if narrows:
            wide, array = array, array.astype(mx.float16)
            overflows = bool(mx.any(mx.isinf(array) & mx.isfinite(wide)).item())
            del wide
        if spec.dtype == "bfloat16":
            array = array.view(mx.uint16)
        array = mx.contiguous(array)
        mx.eval(array)
    out.write(np.ascontiguousarray(np.asarray(array)).data)
    del array
    mx.clear_cache()
    return overflows


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when it is complete and on the disk, or not at all."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write_index(directory: Path, shards: Mapping[str, list[str]], total: int) -> None:
    weight_map = {name: file for file, names in shards.items() for name in names}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    with _new_file(directory / "model.safetensors.index.json") as out:
        out.write(json.dumps(index, indent=2, ensure_ascii=False).encode() + b"\n")
