"""Finds the state dict in what a checkpoint holds, and gives its tensors the names that the module itself uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from porter.errors import InputError
from porter.weights.files import check_key, damaged

T = TypeVar("T")
# Where training code puts the state dict, first found first taken. Averaged copies (EMA) are not preferred.
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "params",
)
DEEPEST = 32
MOST_WRAPPED = 3  # wrappers in wrappers
MOST_TABLES = (
    1_000_000  # a hostile file may hold one table in another many times over, or in itself
)


def find_state_dict(root: Any, tensor_type: type[T], path: Path) -> dict[str, T]:
    """The tensors of the state dict in `root`, by name; tables in tables are joined with dots.

    InputError when there is no tensor.
    """
    for _ in range(DEEPEST):
        inner = next((root[w] for w in WRAPPERS if _has_tensors(root, w, tensor_type)), None)
        if inner is None:
            break
        root = inner
    found: dict[str, T] = {}
    for name, value in _leaves(root, path) if isinstance(root, Mapping) else ():
        if isinstance(value, tensor_type):
            if check_key(path, name) in found:
                raise InputError(f"{path} holds two tensors called {name!r}: save its state_dict.")
            found[name] = value
    if not found:
        raise InputError(f"{path} holds no named tensors: save the model's state_dict() in it.")
    return strip_wrappers(found)


def _has_tensors(root: Any, name: str, tensor_type: type, depth: int = 0) -> bool:
    """Whether root[name] is a table with a tensor in it, or a table that wraps one such."""
    if not isinstance(root, Mapping) or not isinstance(root.get(name), Mapping):
        return False
    table = root[name]
    if any(isinstance(value, tensor_type) for value in table.values()):
        # A module that happens to be called "model" among others is a part, not a wrapper.
        return not any(isinstance(value, tensor_type) for value in root.values())
    if depth == MOST_WRAPPED:
        return False
    return any(_has_tensors(table, w, tensor_type, depth + 1) for w in WRAPPERS if w != name)


def _leaves(root: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """What is in the tables of `root`, in order, with its place as a dotted name."""
    waiting: list[tuple[str, Any, int]] = [("", root, 0)]
    for _ in range(MOST_TABLES):
        if not waiting:
            return
        name, value, depth = waiting.pop()
        if not isinstance(value, Mapping):
            yield name, value
        elif depth <= DEEPEST:
            prefix = f"{name}." if name else ""
            inner = [(f"{prefix}{key}", item, depth + 1) for key, item in value.items()]
            waiting.extend(reversed(inner))
    raise damaged(path, "its tables have more entries than any model")


def strip_wrappers(found: dict[str, T]) -> dict[str, T]:
    """Names without what torch.compile (`_orig_mod.`) and DataParallel (`module.`, on all) put before them."""
    names = {key: key.replace("_orig_mod.", "") for key in found}
    while names and all(name.startswith("module.") for name in names.values()):
        names = {key: name.removeprefix("module.") for key, name in names.items()}
    if len(set(names.values())) != len(names):
        return found
    return {names[key]: value for key, value in found.items()}
