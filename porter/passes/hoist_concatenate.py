"""Concatenations that grow by one array a layer, as in dense blocks."""

from __future__ import annotations

from typing import Any

from porter.ir import Frame, Node, Program, Value


def hoist_concatenate(program: Program) -> int:
    """`concatenate([a, b])` then `concatenate([a, b, c])` becomes one that extends the other, outside the layer.

    Each concatenation whose arrays start with those of an earlier one reads that one's result, and both move to the
    smallest module around the arrays that they join, so a layer takes one array. Returns how many changed.
    """
    count = 0
    previous: dict[tuple[Any, ...], Value] = {}
    for node in program.nodes:
        if node.op != "mx.concatenate" or not isinstance(node.args[0], list):
            continue
        arrays = tuple(node.args[0])
        for length in range(len(arrays) - 1, 1, -1):
            longer = previous.get((*arrays[:length], node.kwargs.get("axis")))
            if longer is not None:
                node.args[0] = [longer, *arrays[length:]]
                count += 1
                break
        previous[(*arrays, node.kwargs.get("axis"))] = node.output
    if count:
        for node in program.nodes:
            if node.op == "mx.concatenate":
                node.scope = _scope_around(node)
    return count


def _scope_around(node: Node) -> tuple[Frame, ...]:
    """The innermost module around the node that something it joins comes from; its own where nothing does."""
    made = [
        value.node.scope
        for value in node.args[0]
        if isinstance(value, Value) and value.node is not None
    ]
    for depth in range(len(node.scope), 0, -1):
        if any(scope[:depth] == node.scope[:depth] for scope in made):
            return node.scope[:depth]
    return () if made else node.scope
