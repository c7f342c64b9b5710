"""What the documentation of a forward says of an input: its kind, and its shape in terms of settings and of other inputs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from math import prod
from typing import Any

import torch

from porter.sources.huggingface_shapes import BATCH, LENGTH, Shape, setting


@dataclass(frozen=True, slots=True)
class Documented:
    """`kind` is "Long", "Bool", ... or empty for any tensor; `sizes` are as written: "batch_size", "2 * config.width"."""

    kind: str
    sizes: tuple[str, ...]


def documented(module: Any, name: str) -> Documented | None:
    """What is said of the shape of `name`, as in "name (`torch.LongTensor` of shape `(batch_size, 2)`)"."""
    entry = rf"^\s*{re.escape(name)} \(`torch\.(\w*)Tensor` of shape `[(\[](.*?)[)\]]`"
    found = re.search(entry, module.forward.__doc__ or "", re.MULTILINE)
    if found is None:
        return None
    annotation = str(inspect.signature(module.forward).parameters[name].annotation)
    kind = found[1] or next((k for k in ("Long", "Bool") if f"{k}Tensor" in annotation), "")
    sizes = (re.sub(r"\s+\(.*\)$", "", size.strip()) for size in found[2].split(","))
    return Documented(kind, tuple(size.strip() for size in sizes if size))


def documented_shape(
    module: Any, config: Any, name: str, values: Mapping[str, torch.Tensor], dynamic: Mapping[str, Mapping[int, str]]
) -> Shape | None:  # fmt: skip
    """The shape of `name` where every size of it can be told: one of the inputs in `values`, a setting, or a usual one."""
    found = documented(module, name)
    if found is None:
        return None
    sizes: dict[str, int] = {"batch_size": BATCH}
    dims = {"batch_size": "batch"}
    # what has the most of its name says most: `past_values_padding` is as long as `past_values`
    for other in sorted(values, key=lambda other: _same_start(name, other)):
        told = documented(module, other)
        if told is not None and len(told.sizes) == values[other].ndim:
            sizes |= zip(told.sizes, values[other].shape, strict=True)
            for axis, size in enumerate(told.sizes):
                dims.pop(size, None)
                if (dim := dynamic.get(other, {}).get(axis)) is not None:
                    dims[size] = dim
    shape = [_size(size, name, config, sizes) for size in found.sizes]
    if None in shape:
        return None
    axes = {axis: dims[size] for axis, size in enumerate(found.sizes) if size in dims}
    return tuple(size for size in shape if size is not None), axes


def _same_start(name: str, other: str) -> int:
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(name, other, strict=False))
    return sum(1 for _ in pairs)


def _size(text: str, name: str, config: Any, known: Mapping[str, int]) -> int | None:
    if text in known or text.isdecimal():
        return known.get(text) or int(text)
    if "*" in text:
        factors = [_size(part.strip(), name, config, known) for part in text.split("*")]
        return None if None in factors else prod(n for n in factors if n is not None)
    if (counted := re.fullmatch(r"len\((?:self\.)?config\.(\w+)\)", text)) is not None:
        items = setting(config, counted[1])
        return len(items) if isinstance(items, (list, tuple)) else None
    own = setting(config, text.removeprefix("config."))
    if isinstance(own, int) and not isinstance(own, bool):
        return own
    if text.endswith(("length", "seq_len", "tokens")):  # of a text of its own, maybe
        of_its_own = setting(config, f"{name.partition('_')[0]}_seq_len")
        return of_its_own if isinstance(of_its_own, int) else LENGTH
    return None


def documented_value(
    name: str, kind: str, shape: tuple[int, ...], generator: torch.Generator
) -> torch.Tensor:
    """Nothing is masked and nothing is padding; other whole numbers are zeros and ones."""
    if "mask" in name:
        return torch.ones(shape, dtype=torch.bool if kind == "Bool" else torch.int64)
    if kind == "Bool":
        return torch.zeros(shape, dtype=torch.bool)
    if "padding" in name:
        return torch.zeros(shape, dtype=torch.int64)
    if kind in ("Long", "Int"):
        return torch.randint(0, 2, shape, generator=generator)
    return torch.randn(shape, generator=generator)
