"""Which module of a wrong port differs first from its source's, in the order in which they end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import torch
from torch.utils import _pytree as pytree

from porter.compile import Port
from porter.validate.candidate import leaves
from porter.validate.data import restored
from porter.validate.metrics import Array, difference

#: Rounding that layers amplify stays below it on most models; a mistake does not.
DIFFERS = 1e-3


def first_difference(
    module: torch.nn.Module, run_source: Callable[[], Any], model: nn.Module,
    run_port: Callable[[], Any], port: Port,
) -> str:  # fmt: skip
    """The port's path, its class and its relative RMS error; "" where none of those that can be compared differs.

    The first call of each module counts. What returns another number of arrays or other shapes than its source is passed over.
    """
    theirs = _torch_outputs(module, {entry["source"] for entry in port.modules}, run_source)
    layouts = {entry["path"]: entry for entry in port.modules}
    for path, found in _mlx_outputs(model, layouts, run_port).items():
        entry = layouts[path]
        truth = theirs.get(entry["source"], [])
        if not len(found) == len(truth) == len(entry["outputs"]):
            continue
        for z, y, described in zip(found, truth, entry["outputs"], strict=True):
            own = restored(z, described["permute"])
            if own.shape == y.shape and (error := difference(own, y).rms_rel) > DIFFERS:
                return f"{path} ({entry['class']}) is the first to differ, by {error:.1e}"
    return ""


def _torch_outputs(
    module: torch.nn.Module, paths: set[str], run_source: Callable[[], Any]
) -> dict[str, list[Array]]:
    found: dict[str, list[Array]] = {}

    def keep(path: str, result: Any) -> None:
        tensors = [t for t in pytree.tree_leaves(result) if isinstance(t, torch.Tensor)]
        found.setdefault(path, [t.detach().double().numpy() for t in tensors])

    hooks = [
        part.register_forward_hook(lambda _m, _x, result, path=path: keep(path, result))
        for path, part in module.named_modules()
        if path in paths
    ]
    try:
        run_source()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _mlx_outputs(
    model: nn.Module, paths: dict[str, Any], run_port: Callable[[], Any]
) -> dict[str, list[Array]]:
    """In the order in which the calls end."""
    own = {id(part): path for path, part in model.named_modules() if path in paths}
    found: dict[str, list[Array]] = {}

    def recorded(call: Callable[..., Any]) -> Callable[..., Any]:
        def record(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            result = call(self, *args, **kwargs)
            path = own.get(id(self))
            if path is not None and path not in found:
                found[path] = [np.array(y.astype(mx.float32)) for y in leaves(result)]
            return result

        return record

    with ExitStack() as patches:
        for kind in {type(part) for part in model.modules()}:
            patches.enter_context(patch.object(kind, "__call__", recorded(kind.__call__)))
        run_port()
    return found
