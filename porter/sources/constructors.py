"""Records what every module was constructed with, so that porter can name sizes as the author did.

`torch.nn.Module.__init__` is wrapped while the context lasts.  It runs once for each module, inside the
`__init__` of every class between it and the most derived one, so the arguments are read from the outermost
of those frames.  A profile hook would see every call instead, and slows building several times.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

_PLAIN = (bool, int, float, str, type(None))


class ConstructorLog:
    """The arguments seen so far, by module; `by_path` gives them the names of a finished tree."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        # The module is kept beside its arguments: a freed one's id would be used again.
        self._seen: dict[int, tuple[torch.nn.Module, dict[str, Any]]] = {}

    def add(self, module: torch.nn.Module, caller: FrameType | None) -> None:
        """Notes the arguments of `module`, whose `torch.nn.Module.__init__` was called from `caller`."""
        if id(module) not in self._seen:
            self._seen[id(module)] = (module, _arguments(module, caller))

    def by_path(self, root: torch.nn.Module) -> dict[str, dict[str, Any]]:
        """Module path -> arguments, for every module under `root` that was built in the context."""
        return {
            path: dict(self._seen[id(module)][1])
            for path, module in root.named_modules(remove_duplicate=False)
            if id(module) in self._seen
        }


@contextmanager
def record_constructors() -> Iterator[ConstructorLog]:
    """Records the constructor arguments of every `torch.nn.Module` built inside the context."""
    log = ConstructorLog()
    original = torch.nn.Module.__init__

    def recording(self: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        log.add(self, sys._getframe(1))
        original(self, *args, **kwargs)

    torch.nn.Module.__init__ = recording  # type: ignore[method-assign]
    try:
        yield log
    finally:
        torch.nn.Module.__init__ = original  # type: ignore[method-assign]


def _arguments(module: torch.nn.Module, caller: FrameType | None) -> dict[str, Any]:
    """The plain arguments of `module`, read from the frames of its `__init__` methods.

    What an outer `__init__` takes as *args or **kwargs is named by the inner one that it goes to.
    """
    frames = []
    while caller is not None:
        first = _first_argument(caller)
        if first is module and caller.f_code.co_name == "__init__":
            frames.append(caller)
        elif isinstance(first, torch.nn.Module) and first is not module:
            break
        caller = caller.f_back
    found: dict[str, Any] = {}
    for frame in reversed(frames):
        named, gathered = _frame_arguments(frame)
        for name, value in named.items():
            found.setdefault(name, value)
        if not gathered:
            break
    return {
        name: plain for name, value in found.items() if (plain := _plain(value)) is not _NOT_PLAIN
    }


def _first_argument(frame: FrameType) -> Any:
    code = frame.f_code
    return frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None


def _frame_arguments(frame: FrameType) -> tuple[dict[str, Any], bool]:
    """The frame's arguments but the first, and whether it gathered some as *args or **kwargs."""
    code, values = frame.f_code, frame.f_locals
    count = code.co_argcount + code.co_kwonlyargcount
    named = {name: values[name] for name in code.co_varnames[1:count] if name in values}
    gathered = False
    if code.co_flags & inspect.CO_VARARGS:
        gathered |= bool(values.get(code.co_varnames[count]))
        count += 1
    if code.co_flags & inspect.CO_VARKEYWORDS:
        extra = values.get(code.co_varnames[count])
        if isinstance(extra, dict) and extra:
            gathered = True
            named |= {name: value for name, value in extra.items() if name not in named}
    return named, gathered


_NOT_PLAIN = object()


def _plain(value: Any) -> Any:
    """`value` as plain data, or `_NOT_PLAIN`; a dtype becomes its name and a Size a tuple."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if type(value) in (tuple, list, torch.Size):
        items = [_plain(item) for item in value]
        if any(item is _NOT_PLAIN for item in items):
            return _NOT_PLAIN
        return items if type(value) is list else tuple(items)
    return _NOT_PLAIN
