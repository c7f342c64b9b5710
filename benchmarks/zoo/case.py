"""What a suite yields: a name and a function that builds a module with example inputs."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.zoo import suites


@dataclass(frozen=True, slots=True)
class Built:
    """A module and its example inputs; `dynamic` is input name -> axis -> dim name, empty for porter's own guess.

    `config` is what a checkpoint's config.json would hold.
    """

    module: torch.nn.Module
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    dynamic: dict[str, dict[int, str]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """`build` runs in the case's own process, seeded; `randomize` is off where the values of parameters matter."""

    name: str
    build: Callable[[], Built]
    randomize: bool = True


def suite_names() -> list[str]:
    """Every file of benchmarks/zoo/suites is a suite: `cases()` yields its cases, PRELOAD names slow imports."""
    return sorted(found.name for found in pkgutil.iter_modules(suites.__path__))


def suite_cases(name: str) -> Iterator[Case]:
    """The suite's cases. Its PRELOAD is imported here, once, before any process is forked."""
    suite = importlib.import_module(f"benchmarks.zoo.suites.{name}")
    for package in getattr(suite, "PRELOAD", ()):
        importlib.import_module(package)
    yield from suite.cases()
