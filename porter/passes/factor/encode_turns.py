"""What some items do, as a structure that is equal for turns of a loop that do the same."""

from __future__ import annotations

from typing import Any

from porter.ir import Node, Value
from porter.passes.factor.blocks import Block, Item
from porter.passes.view_forms import flatten_axes

#: What arrays are filled with.
FILLS = {"mx.zeros": 0, "mx.ones": 1}


def encoded(turn: list[Item], numbers: list[Any] | None = None) -> tuple[Any, list[Value]]:
    """The turn's structure with slots in the place of the arrays from outside, and these arrays.

    With `numbers` the numbers are put there and not into the structure, those of paths too; layers of the module's own may be
    called, and each place that reads an array is a slot.
    """
    outside: list[Value] = []
    inside: dict[Value, tuple[int, int]] = {}

    def code(item: Any) -> Any:
        if isinstance(item, Value):
            if item in inside:
                return ("in", inside[item])
            if item.is_parameter:
                return ("parameter", _path(item.path or "", numbers))
            if item not in outside or numbers is not None:
                outside.append(item)
                return ("slot", len(outside) - 1)
            return ("slot", outside.index(item))
        if isinstance(item, (list, tuple)):
            return tuple(map(code, item))
        if isinstance(item, dict):
            return tuple((key, code(value)) for key, value in item.items())
        if isinstance(item, slice):
            return ("slice", code(item.start), code(item.stop), code(item.step))
        if numbers is not None and type(item) in (int, float):
            numbers.append(item)
            return "number"
        return item

    parts: list[tuple[Any, ...]] = []
    for position, item in enumerate(turn):
        if isinstance(item, Node):
            if numbers is None and (item.is_layer or item.params or "given" in item.attrs):
                return (object(),), []
            own: Any = (item.op, item.args, item.kwargs, item.attrs, item.params)
            own = own if numbers is None else _for_all_numbers(item)
            types = tuple(value.dtype for value in item.outputs)  # a cast has its type there alone
            parts.append((*map(code, own), types))
        else:
            named = numbers is not None and isinstance(item, Block)
            path = _path(item.path, numbers) if named else ""  # type: ignore[union-attr]
            parts.append(("call", path, code(item.inputs), len(item.outputs)))
        inside.update({value: (position, place) for place, value in enumerate(item.outputs)})
    return tuple(parts), outside


def _path(path: str, numbers: list[Any] | None) -> str:
    """The path; with its positions in lists put into `numbers`."""
    parts = path.split(".")
    if numbers is not None:
        numbers += [int(part) for part in parts if part.isdigit()]
        parts = ["#" if part.isdigit() else part for part in parts]
    return ".".join(parts)


def _for_all_numbers(node: Node) -> tuple[Any, ...]:
    """What a node does, in the one form that it has with any number: `0:4` for `:4`. What a list's layer is is its own."""
    if node.is_layer and node.params:
        return node.op, node.args, node.kwargs, node.params
    if node.op == ".reshape" and flatten_axes(node):
        return node.op, node.args[0], flatten_axes(node)
    if node.op == "[]":
        return node.op, node.args, node.attrs | {"key": spelled_key(node)}
    if node.op in FILLS:
        return "mx.full", [*node.args, FILLS[node.op]], node.kwargs, node.attrs, node.params
    return node.op, node.args, node.kwargs, node.attrs, node.params


def spelled_key(node: Node) -> list[Any]:
    """The key of an index with both ends of its slices: `0:4` for `:4`; slices of whole axes stay."""
    key, axis = [], 0
    for entry in node.attrs["key"]:
        size = node.args[0].shape[axis] if axis < node.args[0].rank else None
        if isinstance(entry, slice) and (entry.start is None) != (entry.stop is None):
            stop = size if entry.stop is None and isinstance(size, int) else entry.stop
            entry = slice(entry.start or 0, stop, entry.step)
        key.append(entry)
        axis += entry is not None
    return key
