"""The same inputs at other sizes: batch 3 for 2, another length, height and width apart."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

#: More tokens than sources that carry a state take in one chunk: their graph may have been traced for one chunk alone.
PAST_CHUNKS = 272

Axes = dict[int, dict[int, str]]


def named_axes(names: list[str], dynamic: dict[str, dict[int, str]]) -> Axes:
    """Position of the flat input -> axis -> dim name."""
    return {i: dict(dynamic[name]) for i, name in enumerate(names) if dynamic.get(name)}


def declared_axes(inputs: list[dict[str, Any]], names: list[str]) -> Axes:
    """The same from porter.json's inputs, whose shapes are the MLX side's."""
    axes: Axes = {}
    for position, given in enumerate(inputs):
        index = names.index(given["name"]) if given.get("name") in names else position
        permute = given.get("permute") or list(range(len(given["shape"])))
        found = {permute[i]: d for i, d in enumerate(given["shape"]) if _is_name(d)}
        if found:
            axes[index] = found
    return axes


def _is_name(dim: Any) -> bool:
    return isinstance(dim, str) and dim.isidentifier()


def carries_state(model_py: str) -> bool:
    """Whether the port carries a state from token to token."""
    return "create_ssm_mask(" in model_py


def proposals(dim: str, size: int, carries: bool = False) -> list[int]:
    """Other sizes to try, in order; which of them the model takes only a run can tell.

    With `carries` the port carries a state over the tokens, and a text past the source's chunks comes first.
    """
    if dim == "batch":
        return [size + 1]
    step = 32 if size >= 64 else max(1, size // 4)
    if dim == "width":
        return [size + 2 * step, size + step, size - step, 2 * size]
    if dim == "length":
        long = [PAST_CHUNKS] if carries else []
        return [*long, *(n for n in (size - max(1, size // 4), size + 1, 2 * size) if n > 0)]
    return [size + step, size - step, 2 * size]


def resized(args: Any, kwargs: Any, axes: Axes, sizes: dict[str, int]) -> tuple[Any, Any]:
    """The inputs with each named axis at its new size: rows are repeated or left out."""
    leaves, spec = pytree.tree_flatten((args, kwargs))
    for position, dims in axes.items():
        leaf = leaves[position]
        for axis, dim in dims.items():
            if dim in sizes and isinstance(leaf, torch.Tensor):
                old = leaf.shape[axis]
                leaf = leaf.index_select(axis, torch.arange(sizes[dim]) % old)
        leaves[position] = leaf
    result: tuple[Any, Any] = pytree.tree_unflatten(leaves, spec)
    return result


def sizes_of(args: Any, kwargs: Any, axes: Axes) -> dict[str, int]:
    leaves = pytree.tree_leaves((args, kwargs))
    return {
        dim: leaves[i].shape[axis]
        for i, dims in axes.items()
        for axis, dim in dims.items()
        if isinstance(leaves[i], torch.Tensor)
    }
