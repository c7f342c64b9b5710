"""Runs a module on tensors that have shapes and no data."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def dry_run(module: torch.nn.Module, method: str, kwargs: dict[str, Any], free: str = "") -> Any:
    """What `module.method(**kwargs)` returns, as fake tensors; raises what the module raises.

    The first size of the input named `free` is a symbol; where the module makes a number of it, FixedSize is raised.
    No kernel runs, so that parameters may be on the meta device; a value that the module reads
    (`tensor.item()`) is an error of torch's.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import (
        DimDynamic,
        ShapeEnv,
        StatelessSymbolicContext,
    )
    from torch.nn.utils.stateless import _reparametrize_module

    stored = dict(module.named_parameters()) | dict(module.named_buffers())
    # A copy that shares the tensors: what the module keeps for its next call must not be fake.
    module = copy.deepcopy(module, {id(tensor): tensor for tensor in stored.values()})
    fresh = kwargs[free].clone() if free else None
    with (
        _as_export_does(),
        FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv() if free else None) as mode,
        torch.no_grad(),
    ):

        def fake(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.device.type == "meta":
                return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            return mode.from_tensor(tensor, static_shapes=True)

        swapped = {name: fake(tensor) for name, tensor in stored.items()}
        given = torch.utils._pytree.tree_map_only(torch.Tensor, fake, kwargs)
        if fresh is not None:
            kinds = [DimDynamic.DYNAMIC] + [DimDynamic.STATIC] * (fresh.ndim - 1)
            context: Any = StatelessSymbolicContext(dynamic_sizes=kinds)
            given[free] = mode.from_tensor(fresh, symbolic_context=context)
        with _reparametrize_module(module, swapped, tie_weights=True):
            found = getattr(module, method)(**given)
        if fresh is not None and given[free].shape[0].node.expr.is_number:
            raise FixedSize(f"{method} takes one number of {free}")
        return found


class FixedSize(ValueError):
    """A size that was to be any is a number."""


@contextmanager
def _as_export_does() -> Iterator[None]:
    """Tells the author's code that it is traced, so that it caches nothing; keeps torch's log off the user's screen."""
    logger = logging.getLogger("torch")
    level, compiling = logger.level, torch.compiler._is_compiling_flag
    logger.setLevel(logging.CRITICAL + 1)
    torch.compiler._is_compiling_flag = True
    try:
        yield
    finally:
        torch.compiler._is_compiling_flag = compiling
        logger.setLevel(level)


def runs(module: torch.nn.Module, kwargs: dict[str, Any]) -> bool:
    """Whether `module(**kwargs)` accepts these shapes, as far as that shows without data."""
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
        UnsupportedOperatorException,
    )

    try:
        dry_run(module, "__call__", kwargs)
    except (
        DataDependentOutputException,
        DynamicOutputShapeException,
        UnsupportedOperatorException,
    ):
        return True
    except Exception:  # noqa: BLE001 -- a wrong shape shows as any exception of the author's
        return False
    return True
