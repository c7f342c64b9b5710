"""Dataclasses that a forward takes or returns: torch's trees look into none that its author has not registered."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import _pytree as pytree


def know_dataclasses(tree: Any) -> Any:
    """The tree itself, once torch's trees look into each dataclass in it that holds tensors."""
    for value in pytree.tree_leaves(tree):
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = know_dataclasses([getattr(value, f.name) for f in dataclasses.fields(value)])
            if any(isinstance(part, torch.Tensor) for part in pytree.tree_leaves(fields)):
                _register(type(value))
    return tree


@contextmanager
def known_dataclasses(module: torch.nn.Module) -> Iterator[None]:
    """While it lasts, what the module returns is looked into."""
    hook = module.register_forward_hook(lambda _, inputs, outputs: know_dataclasses(outputs))
    try:
        yield
    finally:
        hook.remove()


def in_torchs_form(tree: Any, leaves: Iterator[Any]) -> Any:
    """The tree with other leaves, as torch.export takes dynamic shapes: a type of an author's is a list there."""
    kind = pytree._get_node_type(tree)
    if kind not in pytree.SUPPORTED_NODES:
        return next(leaves)
    parts, form = pytree.SUPPORTED_NODES[kind].flatten_fn(tree)
    parts = [in_torchs_form(part, leaves) for part in parts]
    own = kind in pytree.BUILTIN_TYPES
    return pytree.SUPPORTED_NODES[kind].unflatten_fn(parts, form) if own else parts


def _register(cls: type) -> None:
    """Fields with tensors or numbers are branches; the rest (None, a name) belongs to the tree's form."""

    def flatten(value: Any) -> tuple[list[Any], Any]:
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        rest = {name: field for name, field in fields.items() if not _has_branches(field)}
        names = tuple(name for name in fields if name not in rest)
        return [fields[name] for name in names], (names, tuple(rest.items()))

    def unflatten(parts: Iterable[Any], form: Any) -> Any:
        names, rest = form
        value: Any = object.__new__(cls)  # its __post_init__ has run
        for name, field in (*zip(names, parts, strict=True), *rest):
            object.__setattr__(value, name, field)
        return value

    def with_keys(value: Any) -> tuple[list[tuple[pytree.KeyEntry, Any]], Any]:
        parts, form = flatten(value)
        return [(pytree.GetAttrKey(n), part) for n, part in zip(form[0], parts, strict=True)], form

    pytree.register_pytree_node(
        cls,
        flatten,
        unflatten,
        serialized_type_name=f"{cls.__module__}.{cls.__qualname__}",
        flatten_with_keys_fn=with_keys,
    )


def _has_branches(field: Any) -> bool:
    kinds = (torch.Tensor, torch.SymInt, int, float)
    return any(isinstance(part, kinds) for part in pytree.tree_leaves(field))
