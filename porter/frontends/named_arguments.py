"""A forward that takes `**kwargs` is exported with the names that it is given: torch finds no sizes in the others."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def named_arguments(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> Iterator[None]:
    """While it lasts, the module's forward has a parameter for each argument that it is given by a name of its own."""
    plain = module.forward
    parameters = inspect.signature(plain).parameters
    loose = [name for name in kwargs if name not in parameters]
    known = [p for p in parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not loose or len(args) > len(known):
        yield
        return

    def forward(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs)

    last = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in loose]
    forward.__signature__ = inspect.Signature([*known, *last])  # type: ignore[attr-defined]
    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own
