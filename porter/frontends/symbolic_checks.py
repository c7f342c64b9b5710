"""Checks of torch's own layers that a size is an int, where an author makes the layer in his forward: a symbol is one too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_CHECK = "_require_tuple_int"


@contextmanager
def symbolic_checks() -> Iterator[None]:
    """nn.Unflatten(2, (h // 8, w // 8)) takes sizes that are symbols; undone at the end."""
    check = getattr(nn.Unflatten, _CHECK)

    def known(self: Any, sizes: Any) -> None:
        if isinstance(sizes, (tuple, list)):
            sizes = tuple(1 if isinstance(size, torch.SymInt) else size for size in sizes)
        check(self, sizes)

    setattr(nn.Unflatten, _CHECK, known)
    try:
        yield
    finally:
        setattr(nn.Unflatten, _CHECK, check)
