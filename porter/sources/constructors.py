"""Records what every module was constructed with, so that porter can name sizes as the author did, and build another size.

`torch.nn.Module.__init__` is wrapped while the context lasts.  It runs once for each module, inside the
`__init__` of every class between it and the most derived one, so the arguments are read from the outermost
of those frames.  A profile hook would see every call instead, and slows building several times.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import sys
import types
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

    @classmethod
    def of_config(cls, module: torch.nn.Module) -> ConstructorLog:
        """For a module that was built elsewhere: the configuration object that it keeps is what it was built with."""
        log = cls()
        config = getattr(module, "config", None)
        if _is_config(config):
            log._seen[id(module)] = (module, {"config": config})
        return log

    def add(self, module: torch.nn.Module, caller: FrameType | None) -> None:
        """Notes the arguments of `module`, whose `torch.nn.Module.__init__` was called from `caller`."""
        if id(module) not in self._seen:
            self._seen[id(module)] = (module, _arguments(module, caller))

    def by_path(self, root: torch.nn.Module) -> dict[str, dict[str, Any]]:
        """Module path -> plain arguments, for every module under `root` that was built in the context.

        The fields of a configuration object count as arguments of the root.
        """
        found = {
            path: plain_arguments(self._seen[id(module)][1])
            for path, module in root.named_modules(remove_duplicate=False)
            if id(module) in self._seen
        }
        if "" in found:
            found[""] = config_fields(self.call_of(root)) | found[""]
        return found

    def call_of(self, module: torch.nn.Module) -> dict[str, Any]:
        """What `module` was constructed with, as it was given; empty where that was not recorded."""
        return dict(self._seen[id(module)][1]) if id(module) in self._seen else {}


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
    """The arguments of `module`, read from the frames of its `__init__` methods.

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
    return found


def plain_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that are plain data."""
    plain = {name: _plain(value) for name, value in arguments.items()}
    return {name: value for name, value in plain.items() if value is not _NOT_PLAIN}


def config_objects(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that hold a model's settings by name: a dataclass, a namespace, a transformers configuration."""
    return {name: value for name, value in arguments.items() if _is_config(value)}


def config_fields(arguments: dict[str, Any]) -> dict[str, Any]:
    """The plain fields of the configuration objects among the arguments."""
    fields: dict[str, Any] = {}
    for value in config_objects(arguments).values():
        fields |= plain_arguments({k: v for k, v in vars(value).items() if not k.startswith("_")})
    return fields


def _is_config(value: Any) -> bool:
    if isinstance(value, (type, torch.nn.Module, torch.Tensor)) or not hasattr(value, "__dict__"):
        return False
    named = isinstance(value, (argparse.Namespace, types.SimpleNamespace))
    return named or dataclasses.is_dataclass(value) or callable(getattr(value, "to_dict", None))


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
