"""porter: every PyTorch model as the MLX module that an expert would have written, with proof.

`porter.convert`, `porter.validate`, `porter.inspect`, `porter.generate` and `porter.lowering` are modules, and calling one
calls the function of its own name: `porter.convert(source, out)`. Nothing is imported before it is used, so that
`porter --help` needs neither torch nor mlx.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from porter.convert import convert as convert
    from porter.generate import generate as generate
    from porter.inspect import inspect as inspect
    from porter.loading import load as load
    from porter.lowering import lowering as lowering
    from porter.validate import record as record
    from porter.validate import validate as validate

__all__ = ["convert", "generate", "inspect", "load", "lowering", "record", "validate"]

FUNCTIONS = {"load": "porter.loading", "record": "porter.validate"}
CALLABLE_MODULES = ("convert", "generate", "inspect", "lowering", "validate")


class _CallableModule(types.ModuleType):
    """A module that can be called as the function it is named after."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


class _Package(types.ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # The import system binds a submodule here once it has run.
        if name in CALLABLE_MODULES and type(value) is types.ModuleType:
            value.__class__ = _CallableModule
        super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name in FUNCTIONS:
        return getattr(importlib.import_module(FUNCTIONS[name]), name)
    if name in CALLABLE_MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


sys.modules[__name__].__class__ = _Package
