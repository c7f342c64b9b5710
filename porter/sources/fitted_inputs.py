"""Example inputs for a model of another size: as wide as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.utils._pytree import tree_map

from porter.sources.source import Source

#: Which axes of an array of so many may be as wide as the model: features last, channels first, any but the samples'.
_AXES: tuple[Callable[[int], list[int]], ...] = (
    lambda rank: [rank - 1] if rank > 1 else [],
    lambda rank: [1] if rank > 2 else [],
    lambda rank: list(range(1, rank)),
)


def fitted_inputs(other: Source, widths: Mapping[int, int]) -> Iterator[Source]:
    """`other` with axes of its floating inputs that have a size of `widths` made the size that this one stands for.

    A model that takes features, as a block or a layer does, takes no others. Gives a source for each choice of axes that
    changes anything, the likeliest first.
    """
    tried: list[list[torch.Size]] = []
    for axes in _AXES:

        def fit(leaf: Any, axes: Callable[[int], list[int]] = axes) -> Any:
            if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point():
                return leaf
            for axis in axes(leaf.dim()):
                size = leaf.shape[axis]
                places = torch.arange(widths.get(size, size), device=leaf.device) % max(size, 1)
                leaf = leaf.index_select(axis, places) if len(places) != size else leaf
            return leaf

        args, kwargs = tree_map(fit, (other.args, other.kwargs))
        shapes = _shapes(args, kwargs)
        if shapes != _shapes(other.args, other.kwargs) and shapes not in tried:
            tried.append(shapes)
            yield replace(other, args=args, kwargs=kwargs)


def _shapes(*trees: Any) -> list[torch.Size]:
    leaves = torch.utils._pytree.tree_leaves(trees)
    return [leaf.shape for leaf in leaves if isinstance(leaf, torch.Tensor)]
