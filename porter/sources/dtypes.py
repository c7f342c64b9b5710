"""The dtype that a source is built in."""

from __future__ import annotations

from typing import Any

import torch

from porter.errors import UsageError

_FLOATS = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}


def torch_dtype(name: str | None) -> torch.dtype | None:
    """The torch dtype of --dtype's `name`; None stays None."""
    if name is None:
        return None
    if name not in _FLOATS:
        raise UsageError(f"--dtype {name!r} is none of {', '.join(_FLOATS)}; choose one of them")
    return _FLOATS[name]


def cast_inputs(value: Any, dtype: torch.dtype) -> Any:
    """`value` with every floating tensor in it, through tuples, lists and dicts, cast to `dtype`."""
    return torch.utils._pytree.tree_map(
        lambda leaf: (
            leaf.to(dtype) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf
        ),
        value,
    )
