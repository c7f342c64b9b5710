"""Module.to that changes nothing, inside a forward.

An author's `self.classifier = self.classifier.to(self.dtype)` swaps parameters, which can't be done while a graph is traced,
and need not be done where they are what they should be.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch


@contextmanager
def idle_moves() -> Iterator[None]:
    """While it lasts, `module.to(...)` returns the module as it is where its tensors have that dtype and device."""
    original = torch.nn.Module.to

    def to(module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        device, dtype, _, memory_format = torch._C._nn._parse_to(*args, **kwargs)
        tensors = chain(module.parameters(), module.buffers())
        idle = memory_format is None and all(
            (device is None or tensor.device == device)
            and (dtype is None or tensor.dtype == dtype or not tensor.is_floating_point())
            for tensor in tensors
        )
        return module if idle else original(module, *args, **kwargs)

    torch.nn.Module.to = to  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        torch.nn.Module.to = original  # type: ignore[method-assign]
