"""`torch.autograd.Function`: what an author differentiates himself goes into a graph as its forward alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def own_gradients() -> Iterator[list[str]]:
    """Yields a sentence for each of the author's functions that a forward applies."""
    told: list[str] = []
    plain = torch.autograd.Function.__dict__["apply"]

    def apply(cls: type, *args: Any, **kwargs: Any) -> Any:
        if not cls.__module__.startswith("torch."):
            told.append(
                f"the source writes the gradient of {cls.__qualname__} itself: a fine-tune of the port gets that of its forward"
            )
        return plain.__get__(None, cls)(*args, **kwargs)

    torch.autograd.Function.apply = classmethod(apply)  # type: ignore[assignment, method-assign]
    try:
        yield told
    finally:
        torch.autograd.Function.apply = plain  # type: ignore[method-assign]
