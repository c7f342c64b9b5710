"""Concatenations that grow by one array a layer, as in dense blocks."""

from __future__ import annotations

from porter.ir import Frame, Node, Program, Value


def hoist_concatenate(program: Program) -> int:
    """`concatenate([a, b])` then `concatenate([a, b, c])` becomes one that extends the other, outside the layer.

    Each concatenation whose arrays start with those of an earlier one reads that one's result, and both move to the
    smallest module around the arrays that they join, so a layer takes one array. Returns how many changed.
    """
    count = 0
    previous: dict[tuple[Value, ...], Value] = {}
    for node in program.nodes:
        if node.op != "mx.concatenate" or not isinstance(node.args[0], list):
            continue
        arrays = tuple(node.args[0])
        for length in range(len(arrays) - 1, 1, -1):
            longer = previous.get((*arrays[:length], node.kwargs.get("axis")))  # type: ignore[arg-type]
            if longer is not None:
                node.args[0] = [longer, *arrays[length:]]
                count += 1
                break
        previous[(*arrays, node.kwargs.get("axis"))] = node.output  # type: ignore[index]
    if count:
        for node in program.nodes:
            if node.op == "mx.concatenate" and node.scope and _is_first(node):
                node.scope = _common([value.node.scope for value in node.args[0] if value.node is not None])
    return count


def _is_first(node: Node) -> bool:
    """Whether everything the node joins comes from outside its module."""
    depth = len(node.scope)
    return all(value.node is None or value.node.scope[:depth] != node.scope for value in node.args[0])


def _common(scopes: list[tuple[Frame, ...]]) -> tuple[Frame, ...]:
    if not scopes:
        return ()
    size = 0
    while all(len(scope) > size and scope[size] == scopes[0][size] for scope in scopes):
        size += 1
    return scopes[0][:size]
