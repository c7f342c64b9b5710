"""Modules whose tensors are fake: shapes and types without elements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils import _pytree as pytree

from porter.time_limit import time_limit

#: CPU seconds for a forward on fake tensors: a loop over tokens may be long.
SECONDS = 5.0


@contextmanager
def fake_parameters(module: torch.nn.Module) -> Iterator[Any]:
    """Parameters on the meta device become fake CPU ones, so that they mix with real inputs; undone at the end.

    Yields the fake mode, or None where every parameter is real.
    """
    meta = [
        (name, p)
        for name, p in [*module.named_parameters(), *module.named_buffers()]
        if p.device.type == "meta"
    ]
    if not meta:
        yield None
        return
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    replaced: list[tuple[dict[str, Any], str, Any]] = []
    shared: dict[int, torch.Tensor] = {}
    for owner in module.modules():
        for table in (owner._parameters, owner._buffers):
            for name, tensor in table.items():
                if tensor is None or tensor.device.type != "meta":
                    continue
                if id(tensor) not in shared:
                    with mode:
                        fake: torch.Tensor = torch.empty(
                            tensor.shape, dtype=tensor.dtype, device="cpu"
                        )
                    if isinstance(tensor, torch.nn.Parameter):
                        fake = torch.nn.Parameter(fake, requires_grad=tensor.requires_grad)
                    shared[id(tensor)] = fake
                replaced.append((table, name, tensor))
    try:
        for table, name, tensor in replaced:
            table[name] = shared[id(tensor)]  # type: ignore[assignment]
        yield mode
    finally:
        for table, name, tensor in replaced:
            table[name] = tensor


def runs(module: torch.nn.Module, args: list[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a forward takes tensors of these shapes and types, as far as SECONDS of CPU time show.

    Nothing is computed, and the module is left as it was.
    """
    tables = [table for m in module.modules() for table in (vars(m), m._parameters, m._buffers)]
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = [(table, dict(table)) for table in tables]
    try:
        with (
            time_limit(SECONDS),
            fake_parameters(module) as mode,
            torch.no_grad(),
            mode or FakeTensorMode(allow_non_fake_inputs=True),
        ):
            args, kwargs = pytree.tree_map_only(
                torch.Tensor, lambda t: torch.empty(t.shape, dtype=t.dtype), (args, kwargs)
            )
            module(*args, **kwargs)
    except Exception:  # noqa: BLE001 -- the author's code raises anything
        return False
    finally:
        for table, before in kept:
            table.clear()
            table.update(before)
    return True
