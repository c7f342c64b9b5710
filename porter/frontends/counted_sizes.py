"""`x.shape[:-1].numel()` is a product of sizes: torch.Size makes a number of it, which fixes the sizes."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_SHAPE: Any = torch.Tensor.shape


class _Sizes(tuple[Any, ...]):
    """What torch.Size is, with a count that may be a symbol."""

    __slots__ = ()

    def numel(self) -> Any:
        return prod(self)

    def __getitem__(self, place: Any) -> Any:
        found = tuple.__getitem__(self, place)
        return _Sizes(found) if isinstance(place, slice) else found


class CountedSizes(TorchFunctionMode):
    """While it lasts, sizes among which are symbols may be counted."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if (func == _SHAPE.__get__ or func is torch.Tensor.size) and isinstance(found, torch.Size):
            symbolic = any(isinstance(size, torch.SymInt) for size in found)
            return _Sizes(found) if symbolic else found
        return found
