"""Sizes that a module needs and that no array in it has are handed to it: `block(x, H, W)`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from porter.ir import Frame, Node, Program, Size, Value

#: What an axis is called where it is handed over: of channels-last maps, and of tokens.
_NAMES = {3: {1: "L"}, 4: {1: "H", 2: "W"}, 5: {1: "D", 2: "H", 3: "W"}}


def hand_sizes(program: Program, wanted: Mapping[Node, list[Size]]) -> int:
    """Gives nodes the sizes `wanted` that a module around theirs can read off an array. Returns how many it could.

    A node keeps them in its attribute `sizes`; each is the output of a node `size` of that module, an integer at run time:
    an axis of an array, or what its attribute `size` makes of one.
    """
    readers = program.users()
    places = {node: place for place, node in enumerate(program.nodes)}
    made: dict[tuple[Value, int, tuple[Frame, ...], Size], Node] = {}
    count = 0
    for node, sizes in wanted.items():
        known = [size for _, size in handed(node)]
        for size in sizes:
            if size in known or node not in places:
                continue  # a node that factoring wrote out is not the program's
            found = _measured(program, node, size, readers, places)
            if found is None:
                continue
            key = (*found, size)
            if key not in made:
                made[key] = _size_node(*key)
            node.attrs.setdefault("sizes", []).append(made[key].output)
            count += 1
    for size_node in made.values():
        writer = size_node.args[0].node
        place = 0 if writer is None else program.nodes.index(writer) + 1
        program.nodes.insert(place, size_node)
    return count


def handed(node: Node) -> Iterator[tuple[Value, Size]]:
    """The values that were handed to a node, and the size that each is."""
    for value in node.attrs.get("sizes", ()):
        assert value.node is not None
        array, axis = value.node.args
        yield value, value.node.attrs.get("size", array.shape[axis])


def _measured(
    program: Program,
    node: Node,
    size: Size,
    readers: dict[Value, list[Node]],
    places: dict[Node, int],
) -> tuple[Value, int, tuple[Frame, ...]] | None:
    """An array with an axis of that size that the nearest module around the node's has, the last made; and that module.

    Where there is none, of `H // 2`, say: one with an axis of its one symbol.
    """
    before = [v for n in program.nodes[: places[node]] for v in n.outputs]
    symbols: set[Any] = getattr(size, "free_symbols", set())
    for wanted in (size, *(symbols if len(symbols) == 1 else ())):
        for depth in reversed(range(len(node.scope))):
            scope = node.scope[:depth]
            for value in reversed([*program.inputs, *before]):
                has_it = value.dtype.startswith("float") and wanted in value.shape
                if has_it and _is_seen(value, scope, readers):
                    return value, value.shape.index(wanted), scope
    return None


def _is_seen(value: Value, scope: tuple[Frame, ...], readers: dict[Value, list[Node]]) -> bool:
    """Whether the module called in `scope` makes the array itself, is given it, or is given it by a module that it calls."""
    depth, made_in = len(scope), value.node.scope if value.node is not None else ()
    if made_in[:depth] != scope:
        return any(reader.scope[:depth] == scope for reader in readers.get(value, []))
    inner = made_in[: depth + 1]
    return len(made_in) == depth or any(
        reader.scope[: depth + 1] != inner for reader in readers.get(value, [])
    )


def _size_node(value: Value, axis: int, scope: tuple[Frame, ...], size: Size) -> Node:
    location = value.node.location if value.node is not None else None
    node = Node("size", [value, axis], scope=scope, location=location)
    if size != value.shape[axis]:
        node.attrs["size"] = size
    name = _NAMES.get(value.rank, {}).get(axis, "N")
    node.outputs = [Value((), "size", node, name)]
    return node
