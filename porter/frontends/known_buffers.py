"""Small buffers that a forward branches on (`if self.initialized:`) have the values that the checkpoint gives them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from porter.weights.readers import Tensors

#: A longer buffer is a table, which no forward branches on.
_MOST = 64


@contextmanager
def known_buffers(
    module: torch.nn.Module, tensors: Tensors, keys: dict[str, str]
) -> Iterator[None]:
    """Flags and numbers among the buffers are known in an export, the checkpoint's before the module's own; undone at the end.

    Only those: floats of several elements are statistics.
    """
    held = set(tensors.keys())
    known: dict[int, torch.Tensor] = {}
    for name, buffer in module.named_buffers():
        if buffer.numel() > (1 if buffer.is_floating_point() else _MOST):
            continue
        key = keys.get(name, name)
        if key in held:
            value = torch.from_numpy(np.array(tensors.read(key)))
            known[id(buffer)] = value.to(buffer.dtype).reshape(buffer.shape)
        elif not isinstance(buffer, FakeTensor) and buffer.device.type != "meta":
            known[id(buffer)] = buffer.detach().clone()
        if isinstance(buffer, FakeTensor) and id(buffer) in known:
            buffer.constant = known[id(buffer)]
    plain = FakeTensorMode.from_tensor

    def from_tensor(self: FakeTensorMode, tensor: torch.Tensor, **options: Any) -> FakeTensor:
        fake = plain(self, tensor, **options)
        if id(tensor) in known:
            fake.constant = known[id(tensor)]
        return fake

    FakeTensorMode.from_tensor = from_tensor  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        FakeTensorMode.from_tensor = plain  # type: ignore[method-assign]
