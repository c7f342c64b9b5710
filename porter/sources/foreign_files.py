"""Python files of the user's own, run as modules."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from porter.errors import InputError
from porter.sources.running import foreign_code


def import_file(path: Path) -> ModuleType:
    """Runs a Python file as a module with a name of its own, its folder on sys.path for its imports."""
    path = path.expanduser().resolve()
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    name = module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    python_module = importlib.util.module_from_spec(spec)
    sys.modules[name] = python_module
    try:
        with foreign_code(f"importing {path}", "run it with python to see where"):
            spec.loader.exec_module(python_module)
    except BaseException:
        del sys.modules[name]
        raise
    return python_module


def module_name(path: Path) -> str:
    """What a file is called as a module. The name comes from the path: another process, or a pickle, finds the same one."""
    return f"porter_source_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"


def file_name(module: str) -> str:
    """What the user calls the file that a module came from; any other module's own name."""
    return re.sub(r"^porter_source_(\w+)_[0-9a-f]{12}$", r"\1", module)
