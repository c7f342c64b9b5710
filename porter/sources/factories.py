"""`FILE.py:FACTORY` and `package.module:FACTORY`: a function of the user's that returns a module."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from porter.errors import InputError, UsageError
from porter.sources.built import built_source
from porter.sources.constructors import record_constructors
from porter.sources.foreign_files import import_file
from porter.sources.names import did_you_mean
from porter.sources.running import deterministic, foreign_code
from porter.sources.source import Source, SourceOptions


def resolve_factory(spec: str, options: SourceOptions) -> Source:
    """Imports the factory's module, calls the factory, and takes its example inputs where it gives some."""
    where, _, factory_name = spec.rpartition(":")
    if not where or not factory_name.isidentifier():
        raise UsageError(
            f"{spec!r} does not name a factory; write FILE.py:FACTORY or package.module:FACTORY"
        )
    with deterministic(options.seed):
        python_module = (
            import_file(Path(where)) if where.endswith(".py") else _import_package(where)
        )
        factory = getattr(python_module, factory_name, None)
        if not callable(factory) or isinstance(factory, torch.nn.Module):
            functions = [name for name, value in vars(python_module).items() if callable(value)]
            raise InputError(
                f"{where} has no function {factory_name!r}{did_you_mean(factory_name, functions)}; "
                "name a function that returns the model"
            )
    with (
        deterministic(options.seed),
        record_constructors() as log,
        foreign_code(f"the factory {spec}", "call it in Python to see where"),
    ):
        result = factory()
    module, args, kwargs = unpack_result(spec, result)
    name = factory_name if type(module).__module__.startswith("torch.nn") else type(module).__name__
    return built_source(spec, options, "factory", name, module, args, kwargs, constructors=log)


def unpack_result(
    spec: str, result: Any
) -> tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]]:
    """(module, args, kwargs) from what a factory returned, or an InputError that says what it may return."""
    parts = result if isinstance(result, tuple) else (result,)
    if 1 <= len(parts) <= 3 and isinstance(parts[0], torch.nn.Module):
        args = parts[1] if len(parts) > 1 else ()
        kwargs = parts[2] if len(parts) > 2 else {}
        if isinstance(args, torch.Tensor):
            args = (args,)
        if isinstance(args, (tuple, list)) and isinstance(kwargs, dict):
            return parts[0], tuple(args), dict(kwargs)
    kinds = ", ".join(type(part).__name__ for part in parts)
    raise InputError(
        f"{spec} returned ({kinds}); let it return a torch.nn.Module, (module, args) or (module, args, kwargs)"
    )


def _import_package(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(
            f"{name!r} is no Python module; write FILE.py:FACTORY or package.module:FACTORY"
        )
    try:
        with foreign_code(f"importing {name}", "import it in Python to see where"):
            importlib.invalidate_caches()
            return importlib.import_module(name)
    except Exception as error:
        cause = error.__cause__
        if (
            isinstance(cause, ModuleNotFoundError)
            and cause.name
            and f"{name}.".startswith(f"{cause.name}.")
        ):
            raise InputError(
                f"there is no Python module {cause.name!r}; check the name and PYTHONPATH"
            ) from cause
        raise
