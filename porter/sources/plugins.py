"""Files of the user's own with lowerings for the user's own ops (`--plugin FILE`); docs/PLUGINS.md shows one."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from porter.errors import InputError
from porter.functions import add_file
from porter.sources.foreign_files import import_file, module_name


def load_plugins(files: Iterable[str]) -> None:
    """Runs each file, once in a process. Raises InputError for one that is missing or raises."""
    for file in files:
        path = Path(file).expanduser().resolve()
        name = module_name(path)
        if name not in sys.modules:
            import_file(path)
        try:
            add_file(name, path)
        except ValueError as error:
            raise InputError(f"{file} can't be a plugin: {error}") from error
