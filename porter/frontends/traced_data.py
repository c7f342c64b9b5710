"""`tensor.data`: torch makes a tensor of it that no trace knows of; `detach` is the same array, and traced."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_DATA: Any = torch.Tensor.data


class TracedData(TorchFunctionMode):
    """Reads of `tensor.data` are its `detach`, and what is assigned to it is written into the tensor."""

    def __init__(self) -> None:
        super().__init__()
        self._read: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # by the array that was read

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func == _DATA.__get__:
            held = args[0].detach()
            self._read[id(held)] = held, args[0]
            return held
        if func == _DATA.__set__:
            tensor, value = args
            if self._read.get(id(value), (None, None))[1] is not tensor:  # else `data *= mask`
                tensor.detach().copy_(value)
            return None
        return func(*args, **(kwargs or {}))
