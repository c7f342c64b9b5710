"""The inputs as torch.export takes them apart, and what their axes are called."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from porter.sources import Source

#: What the axes of an input of each rank are called where nobody says: a guess that the export may overrule.
_AXES = {
    1: {0: "batch"},
    2: {0: "batch", 1: "length"},
    3: {0: "batch", 1: "length", 2: "width"},
    4: {0: "batch", 2: "height", 3: "width"},
    5: {0: "batch", 2: "frames", 3: "height", 4: "width"},
}


def argument_names(module: torch.nn.Module, args: tuple, kwargs: dict) -> list[str]:
    """The names of the arguments of `module.forward` that `args` and `kwargs` give, in that order."""
    parameters = inspect.signature(module.forward).parameters
    variadic = next((n for n, p in parameters.items() if p.kind is p.VAR_POSITIONAL), None)
    names = [n for n, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.KEYWORD_ONLY)]
    if variadic:
        names = names[: list(parameters).index(variadic)]
        names += [f"{variadic}_{i}" for i in range(len(args) - len(names))]
    return names[: len(args)] + list(kwargs)


def example_inputs(source: Source) -> dict[str, Any]:
    """The example inputs by the names of forward's arguments; empty for a source without a module."""
    if source.module is None:
        return {}
    names = argument_names(source.module, source.args, source.kwargs)
    return {**dict(zip(names, source.args, strict=False)), **source.kwargs}


def part_name(name: str, path: tuple[Any, ...]) -> str:
    """What torch calls the tensor at a path inside an argument: data["points"][0] is data_points_0."""
    keys = (getattr(k, "key", getattr(k, "idx", getattr(k, "name", ""))) for k in path)
    parts = [re.sub(r"[^a-zA-Z0-9]", "_", str(key)) for key in keys]
    return "_".join([name, *parts]).lower() if parts else name


def named_tensors(inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors among the arguments, those inside lists and dicts too, by the names that torch gives them."""
    return {
        part_name(name, path): leaf
        for name, value in inputs.items()
        for path, leaf in pytree.tree_leaves_with_path(value)
        if isinstance(leaf, torch.Tensor)
    }


def named_dims(source: Source) -> dict[str, dict[int, str]]:
    """The axes of the inputs that may change, by name: as the source says, else by each input's rank.

    Two inputs share a name only where they share the size. A second length has the name of its input: `memory_length`.
    """
    if source.dynamic or source.module is None:
        return source.dynamic
    sizes: dict[str, int] = {}
    result: dict[str, dict[int, str]] = {}
    for name, value in named_tensors(example_inputs(source)).items():
        for axis, kind in _AXES.get(value.ndim, {}).items():
            size = value.shape[axis]
            if size < 2:
                continue
            alike = (dim for dim, n in sizes.items() if dim_kind(dim) == kind and n == size)
            dim = next(alike, kind if kind not in sizes else f"{name}_{kind}")
            sizes[dim] = size
            result.setdefault(name, {})[axis] = dim
    return result


def dim_kind(dim: str) -> str:
    """What is counted along a dim: a length is one under any name."""
    return dim.rpartition("_")[2]
