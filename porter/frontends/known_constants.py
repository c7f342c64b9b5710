"""Numbers that a forward makes itself (`torch.arange(1, x.ndim).tolist()`) have their values while it is traced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch._subclasses.fake_tensor as fake_tensors
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

#: More numbers are a table, which no forward asks one by one.
_MOST = 64

_MAKERS = {
    torch.ops.aten.arange.default,
    torch.ops.aten.arange.start,
    torch.ops.aten.arange.start_step,
    torch.ops.aten.linspace.default,
}


@contextmanager
def known_constants() -> Iterator[None]:
    """Rows of numbers between known bounds, and what is worked out from them alone, may be asked for their values."""
    plain, limit = FakeTensorMode.dispatch, fake_tensors.CONSTANT_NUMEL_LIMIT

    def dispatch(
        self: FakeTensorMode, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = plain(self, func, types, args, kwargs)
        known = func in _MAKERS and all(isinstance(bound, (int, float)) for bound in args)
        if known and isinstance(made, FakeTensor) and made.numel() <= _MOST:
            with _disable_current_modes():
                made.constant = func(*args, **{**(kwargs or {}), "device": "cpu"})
        return made

    FakeTensorMode.dispatch = dispatch  # type: ignore[method-assign]
    fake_tensors.CONSTANT_NUMEL_LIMIT = _MOST
    try:
        yield
    finally:
        FakeTensorMode.dispatch = plain  # type: ignore[method-assign]
        fake_tensors.CONSTANT_NUMEL_LIMIT = limit
