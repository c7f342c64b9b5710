"""S12 and S13: what only a converted folder shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx

from porter import artifact, loading
from porter.errors import PorterError
from porter.style.finding import Finding
from porter.weights.mapping import Mapping

#: Sizes to try for a named dim: what many models take, and another.
_SIZES = {"batch": (2, 3), "height": (224, 256), "width": (224, 256), "length": (16, 24)}
_OTHER = (16, 24)


def check_folder(directory: str | Path) -> list[Finding]:
    """S12: DIR loads strictly and its mapping names every tensor. S13: it runs at a second batch and size.

    Nothing is computed: the forward is only built. A size that the first attempt does not take either says nothing.
    """
    directory = Path(directory)
    try:
        model = loading.load(directory)
    except PorterError as error:
        return [Finding("S12", 1, f"does not load: {error}")]
    return [*_unmapped(directory), *_fixed_sizes(directory, model)]


def _unmapped(directory: Path) -> Iterator[Finding]:
    path = directory / artifact.MAPPING_FILE
    if not path.exists():
        return
    known = Mapping.load(path).tensors.keys()
    quantized = "quantization" in artifact.read_json(directory / artifact.CONFIG_FILE)
    for key in loading.weights_of(directory):
        stem, _, leaf = key.rpartition(".")
        if key not in known and not (quantized and leaf in ("scales", "biases")):
            yield Finding("S12", 1, f"{stem}.{leaf} is not in {artifact.MAPPING_FILE}")


def _fixed_sizes(directory: Path, model: Any) -> Iterator[Finding]:
    inputs = artifact.read_facts(directory).inputs
    named = [
        dim for row in inputs for dim in row["shape"] if isinstance(dim, str) and dim.isidentifier()
    ]
    first = {dim: _SIZES.get(dim, _OTHER)[0] for dim in named}
    if not named or _failure(model, inputs, first) is not None:
        return
    for dim in first:
        sizes = {**first, dim: _SIZES.get(dim, _OTHER)[1]}
        reason = _failure(model, inputs, sizes)
        if reason is not None:
            yield Finding("S13", 1, f"does not run with {dim} = {sizes[dim]}: {reason}")


def _failure(model: Any, inputs: Any, sizes: dict[str, int]) -> str | None:
    """Why the forward can't be built at these sizes."""
    arrays = []
    for row in inputs:
        shape = [sizes.get(size, size) for size in row["shape"]]
        if any(not isinstance(size, int) for size in shape):
            return f"{row['name']} has the sizes {shape}"
        arrays.append(mx.zeros(shape, dtype=getattr(mx, _TYPES.get(row["dtype"], row["dtype"]))))
    try:
        model(*arrays)
    except (ValueError, RuntimeError, IndexError) as error:
        return str(error)
    return None


_TYPES = {"bool": "bool_"}
