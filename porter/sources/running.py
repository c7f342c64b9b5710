"""Runs the code of others (factories, model libraries) so that it cannot disturb porter's output or state."""

from __future__ import annotations

import contextlib
import importlib
import random
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

import torch

from porter.errors import InputError, MachineError, PorterError


@contextlib.contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seeds torch's, Python's and NumPy's global generators with `seed`, and puts them back after."""
    import numpy as np

    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % (1 << 32))
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@contextlib.contextmanager
def foreign_code(what: str, advice: str) -> Iterator[None]:
    """Runs code that is not porter's: its prints go to stderr, its warnings nowhere, its errors are InputErrors."""
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except PorterError:
        raise
    except ModuleNotFoundError as error:
        raise MachineError(
            f"{what} needs the package {error.name!r}, which is not installed; install it"
        ) from error
    except (Exception, SystemExit) as error:
        text = (str(error).strip() or "no message").splitlines()[0]
        # torch says so with a RuntimeError.
        if isinstance(error, MemoryError) or "can't allocate memory" in text:
            raise MachineError(f"{what} ran out of memory; use a machine with more") from error
        raise InputError(f"{what} raised {type(error).__name__}: {text}; {advice}") from error


def import_extra(package: str, extra: str | None = None) -> ModuleType:
    """Imports an optional package, or raises a MachineError that names the extra to install."""
    extra = extra or package
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise MachineError(
            f"this source needs {error.name}; install it with: pip install 'porter[{extra}]'"
        ) from error
    except Exception as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MachineError(
            f"{package} is installed but does not import ({text}); "
            f"reinstall it with: pip install --force-reinstall 'porter[{extra}]'"
        ) from error
