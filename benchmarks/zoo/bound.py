"""A call with all its arguments as a module whose inputs are the tensors among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from benchmarks.zoo.case import Built


class Bound(torch.nn.Module):
    """Calls `function` (a module, whose parameters it keeps, or a plain function) with what is no tensor bound."""

    def __init__(self, function: Callable[..., Any], flat: list[Any], spec: Any):
        super().__init__()
        self.function, self.flat, self.spec = function, flat, spec

    def forward(self, *arrays: torch.Tensor) -> Any:
        rest = iter(arrays)
        items = [next(rest) if isinstance(item, torch.Tensor) else item for item in self.flat]
        args, kwargs = pytree.tree_unflatten(items, self.spec)
        return self.function(*args, **kwargs)


def bound(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Built:
    """The call as a case. Raises ValueError where it has no tensor, or an empty one."""
    flat, spec = pytree.tree_flatten((args, kwargs))
    tensors = [item for item in flat if isinstance(item, torch.Tensor)]
    if not tensors or any(tensor.numel() == 0 for tensor in tensors):
        raise ValueError("nothing to compare: no tensor, or an empty one")
    if isinstance(function, torch.nn.Module) and len(tensors) == len(args) and not kwargs:
        return Built(function, tuple(tensors))
    return Built(Bound(function, flat, spec), tuple(tensors))
