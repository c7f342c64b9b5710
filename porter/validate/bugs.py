"""Bugs that are planted in a loaded port to see whether a validation finds them. MLX only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn

#: A bug changes a module and returns what undoes it.
Undo = Callable[[], None]


def plantable(modules: dict[str, nn.Module], paths: list[str]) -> list[tuple[str, str]]:
    """(kind, path) of every bug that can be planted, one for each kind and class of module."""
    found: dict[tuple[str, type], tuple[str, str]] = {}
    for path in paths:
        module = modules.get(path)
        for kind, (applies, _) in BUGS.items():
            if module is not None and applies(module):
                found.setdefault((kind, type(module)), (kind, path))
    return list(found.values())


def plant(kind: str, module: nn.Module) -> Undo:
    """Plants one bug."""
    return BUGS[kind][1](module)


def _attribute(module: nn.Module, name: str, value: Any) -> Undo:
    old = getattr(module, name)
    setattr(module, name, value)
    return lambda: setattr(module, name, old)


def _array(module: nn.Module, name: str, change: Callable[[mx.array], mx.array]) -> Undo:
    old = module[name]
    module[name] = change(old)
    return lambda: module.__setitem__(name, old)


def _has(module: nn.Module, name: str) -> bool:
    return isinstance(module.get(name), mx.array) and bool(mx.any(module[name] != 0).item())


def _is_square(module: nn.Module) -> bool:
    weight = module.get("weight")
    linear = type(module) is nn.Linear
    return linear and weight is not None and weight.shape[0] == weight.shape[1]


def _is_norm(module: nn.Module) -> bool:
    return "Norm" in type(module).__name__ and isinstance(getattr(module, "eps", None), float)


def _has_pair(module: nn.Module) -> bool:
    q, k = module.get("q_proj"), module.get("k_proj")
    return (
        isinstance(q, nn.Linear) and isinstance(k, nn.Linear) and q.weight.shape == k.weight.shape
    )


def _swap(module: nn.Module) -> Undo:
    q, k = module["q_proj"], module["k_proj"]
    module["q_proj"], module["k_proj"] = k, q

    def undo() -> None:
        module["q_proj"], module["k_proj"] = q, k

    return undo


Bug = tuple[Callable[[nn.Module], bool], Callable[[nn.Module], Undo]]
BUGS: dict[str, Bug] = {
    "eps ten times as large": (_is_norm, lambda m: _attribute(m, "eps", m.eps * 10)),
    "the other GELU": (
        lambda m: type(m) is nn.GELU,
        lambda m: _attribute(m, "_approx", "tanh" if m._approx == "none" else "none"),
    ),
    "bias lost": (lambda m: _has(m, "bias"), lambda m: _array(m, "bias", mx.zeros_like)),
    "weight transposed": (_is_square, lambda m: _array(m, "weight", mx.transpose)),
    "1 added to the weight": (
        lambda m: _is_norm(m) and _has(m, "weight"),
        lambda m: _array(m, "weight", lambda w: w + 1),
    ),
    "query and key swapped": (_has_pair, _swap),
}
