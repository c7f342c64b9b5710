"""Sizes that a source reads off an array (`x[: n.item()]`), which no port can write."""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram


def reads_sizes(program: ExportedProgram) -> bool:
    """Whether some array has a size that was read off another one."""
    aten = torch.ops.aten
    values = [(node, node.meta.get("val")) for node in program.graph.nodes]
    read = {aten.item.default, aten._local_scalar_dense.default}
    numbers = {s for node, value in values if node.target in read for s in _symbols(value)}
    if not numbers:
        return False
    tensors = [value for _, value in values if isinstance(value, torch.Tensor)]
    return any(numbers & _symbols(size) for tensor in tensors for size in tensor.shape)


def _symbols(value: Any) -> set[Any]:
    return set(value.node.expr.free_symbols) if isinstance(value, torch.SymInt) else set()
