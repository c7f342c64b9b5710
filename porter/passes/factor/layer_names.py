"""What a layer is called in its class: the source's path below the class's own module, or what it does."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from porter.ir import Node
from porter.passes.factor.blocks import Block, Loop


def layer_path(node: Node) -> str:
    """Where a layer's parameters live in the source: what their names share."""
    paths = [value.path or "" for value in node.params.values()]
    if node.op == "nn.RoPE":  # the source spells it out where it is used
        return f"{node.scope[-1].path}.rope" if node.scope else "rope"
    if not paths:
        return node.scope[-1].path if node.scope else ""
    parents = {path.removesuffix(f".{role}") for role, path in zip(node.params, paths, strict=True)}
    if len(parents) == 1 and parents.isdisjoint(paths):
        return parents.pop()
    stems = {
        path.rpartition(".")[0] if path.rpartition(".")[2] in _LEAVES else _stem(path)
        for path in paths
    }
    return stems.pop() if len(stems) == 1 else ""


def member_path(block: Block, node: Node) -> str:
    """The relative source path of a layer; one called as a function is named after what it does.

    Layers without parameters that would have one path and differ (two poolings in one forward) are told apart.
    """
    place = variant(block, node)
    return _place_of(block, node) if place is None else f"{_function_name(node)}{_LETTERS[place]}"


def variant(block: Block, node: Node) -> int | None:
    """Which of the different layers without parameters at one path this is; None where there is only one."""
    if node.params:
        return None
    path = _place_of(block, node)
    found: list[Any] = []
    for item in block.items:
        if isinstance(item, Node) and item.is_layer and not item.params:
            kind = (item.op, item.attrs)
            if kind not in found and _place_of(block, item) == path:
                found.append(kind)
    return found.index((node.op, node.attrs)) if len(found) > 1 else None


def _place_of(block: Block, node: Node) -> str:
    """A layer's path below its block; of one that a caller hands over its own name; else what it does."""
    path = layer_path(node)
    if path and path != block.path and block.owns(path):
        return block.relative(path)
    return (
        _given_place(block, path)
        if node.params and path not in ("", block.path)
        else _function_name(node)
    )


def _given_place(block: Block, path: str) -> str:
    """The place of a layer that a caller hands over; `given_heads.0` where the block has heads of its own."""
    paths = {layer_path(item) for item in block.items if isinstance(item, Node) and item.params}
    for item in block.items:
        if not isinstance(item, Node):
            paths |= {child.path for child in (item.blocks if isinstance(item, Loop) else [item])}
    tail = _tail(path, {other for other in paths if other and not block.owns(other)})
    own = {block.relative(other).partition(".")[0] for other in paths if block.owns(other)}
    return f"given_{tail}" if tail.partition(".")[0] in own else tail


def _tail(path: str, paths: Collection[str]) -> str:
    """The path of a module without what it shares with those that a caller hands over too: `heads.0`."""
    parts = path.split(".")
    columns = zip(*(other.split(".") for other in paths), strict=False)
    differ = (place for place, column in enumerate(columns) if len(set(column)) > 1)
    shared = next(differ, len(parts) - 1)
    return ".".join(parts[shared - parts[shared].isdigit() :])


def _function_name(node: Node) -> str:
    return {"nn.MaxPool": "maxpool", "nn.AvgPool": "avgpool"}.get(
        node.op[:10], node.op.removeprefix("nn.").lower()
    )


_LETTERS = ("", *(f"_{letter}" for letter in "bcdefghijklmnopqrstuvwxyz"))
_LEAVES = {"weight", "bias", "running_mean", "running_var", "gamma", "beta", "scale"}


def _stem(path: str) -> str:
    for suffix in ("_weight", "_bias"):
        if path.endswith(suffix):
            return path.removesuffix(suffix)
    return path
