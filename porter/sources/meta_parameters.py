"""Builds modules whose parameters take no memory and whose buffers are real."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def meta_parameters() -> Iterator[None]:
    """Moves each parameter to the meta device as it is registered.

    `torch.device("meta")` would take the buffers along, and no rule says how to compute those again (rotary
    frequencies, position ids, relative position indices).  The parameter's own memory is never touched: layers
    allocate with `torch.empty` and initialise after registration.  A parameter in two places stays one.
    """
    original = torch.nn.Module.register_parameter
    moved: dict[int, tuple[torch.nn.Parameter, torch.nn.Parameter]] = {}

    def register(self: torch.nn.Module, name: str, param: torch.nn.Parameter | None) -> None:
        if param is not None and param.device.type != "meta":
            if id(param) not in moved:
                meta = torch.nn.Parameter(param.detach().to("meta"), param.requires_grad)
                vars(meta).update(vars(param))
                moved[id(param)] = (param, meta)
            param = moved[id(param)][1]
        original(self, name, param)

    torch.nn.Module.register_parameter = register  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = original  # type: ignore[method-assign]
