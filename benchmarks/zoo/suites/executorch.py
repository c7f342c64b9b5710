"""The operator tests of ExecuTorch's MLX delegate: each configuration's module and inputs, ported by porter instead.

They come with the executorch package. What they need of it besides themselves (the exporter, the generated schema, which its
Linux wheel lacks) builds no module and stands as an empty shell here, so `pip install --no-deps executorch` is enough.
"""

from __future__ import annotations

import importlib.machinery
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import torch

from benchmarks.zoo.bound import bound
from benchmarks.zoo.case import Built, Case

_PACKAGE = "executorch.backends.mlx"
#: What the tests' modules are made of; it needs torch alone.
_REAL = tuple(f"{_PACKAGE}.{name}" for name in ("test", "custom_ops", "llm"))


class _Shells(MetaPathFinder, Loader):
    """Finds the rest of executorch as modules in which every name is there and does nothing."""

    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith("executorch.") or fullname.startswith(_REAL):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Shell(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        import executorch

        inside = module.__name__.split(".")[1:]
        module.__path__ = [f"{root}/{'/'.join(inside)}" for root in executorch.__path__]


class _Shell(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=name)


def cases() -> Iterator[Case]:
    seen: Counter[str] = Counter()
    for place, (name, _) in enumerate(_configurations()):
        seen[name] += 1
        unique = name if seen[name] == 1 else f"{name}-{seen[name]}"
        yield Case(unique, partial(build, place), randomize=False)


def build(place: int) -> Built:
    _, case = _configurations()[place]
    case._set_seed()
    module = case.create_model().eval()
    given = case.create_inputs()
    return bound(module, (given,) if isinstance(given, torch.Tensor) else tuple(given), {})


def _configurations() -> list[tuple[str, Any]]:
    if not any(isinstance(finder, _Shells) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Shells())
    importlib.import_module(f"{_PACKAGE}.test.test_ops")  # registers them
    return list(importlib.import_module(f"{_PACKAGE}.test.test_utils").get_all_test_configs())
