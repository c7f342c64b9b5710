"""Attention whose author merges samples and heads into one axis for a batched product of three axes."""

from __future__ import annotations

from typing import Any

from porter.ir import Node, Program, Value, values_in
from porter.ir.builder import Builder, simplify
from porter.ir.ops import ELEMENTWISE
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import producer

_ALONG = ("mx.softmax",)


def keep_heads(program: Program) -> int:
    """Products over (batch * heads, length, width) keep their four axes: the merging reshape moves behind them.

    What stands between the products goes along: scales, masks that repeat for every sample, the softmax. A reshape back to
    four axes is none then. Returns how many nodes changed.
    """
    count = 0
    merged: dict[Value, Value] = {}
    mapping: dict[Value, Value] = {}
    nodes: list[Node] = []
    for node in program.nodes:
        node.replace_inputs(lambda value: mapping.get(value, value))
        source = node.args[0] if node.args and isinstance(node.args[0], Value) else None
        if node.op == ".reshape" and source is not None:
            if _merges(source, node.output):
                merged[node.output] = source
            elif source in merged and node.output.shape == merged[source].shape:
                mapping[node.output] = merged[source]
                count += 1
                continue
        nodes.append(node)
        if (split := _split_first(node)) is not None:
            nodes += split
            merged[node.output] = split[-1].output
        operands = _four_axes(node, merged)
        if operands is None:
            continue
        lead = next(merged[v].shape[:2] for v in values_in(node.args) if v in merged)
        old = node.output
        node.args = operands
        if node.op in _ALONG:
            node.kwargs["axis"] = 3
        wide = Value((*lead, *old.shape[1:]), old.dtype, node, old.name)
        node.outputs = [wide]
        back = Node(".reshape", [wide, *old.shape], scope=node.scope, location=node.location)
        back.outputs, old.node = [old], back
        nodes.append(back)
        merged[old] = wide
        count += 1
    program.nodes = nodes
    program.replace(mapping)
    if count:
        remove_dead(program)
    return count


def _merges(source: Value, out: Value) -> bool:
    """Whether a reshape makes one axis of the first two."""
    if source.rank != 4 or out.rank != 3 or source.shape[2:] != out.shape[1:]:
        return False
    return bool(simplify(source.shape[0] * source.shape[1] - out.shape[0]) == 0)


def _split_first(node: Node) -> list[Node] | None:
    """(batch, heads, length, width) of what `x.view(length, batch * heads, width).transpose(0, 1)` makes three axes."""
    view = producer(node.args[0], ".reshape") if node.op == ".transpose" else None
    if view is None or node.args[1:] != [1, 0, 2] or not isinstance(view.args[0], Value):
        return None
    source, flat = view.args[0], view.output
    if source.rank != 3 or source.shape[0] != flat.shape[0]:
        return None
    features, width = source.shape[2], flat.shape[2]
    if not isinstance(features, int) or not isinstance(width, int) or features % width:
        return None
    heads = features // width
    if heads < 2 or simplify(source.shape[1] * heads - flat.shape[1]) != 0:
        return None
    builder = Builder(node.scope, node.location)
    split = builder.reshape(source, (*source.shape[:2], heads, width))
    builder.transpose(split, (1, 2, 0, 3))
    return builder.nodes


def _four_axes(node: Node, merged: dict[Value, Value]) -> list[Any] | None:
    """The node's arguments over four axes; None where it is none of the ops here or something doesn't fit."""
    mine = [v for v in values_in(node.args) if v in merged]
    if not mine or len(node.outputs) != 1 or node.output.rank != 3 or node.kwargs.keys() - {"axis"}:
        return None
    lead = merged[mine[0]].shape[:2]
    if any(merged[v].shape[:2] != lead for v in mine):
        return None
    if node.op == ".transpose":
        return [merged[mine[0]], 0, 1, 3, 2] if node.args[1:] == [0, 2, 1] else None
    if node.op == "@":
        return [merged[v] for v in node.args] if len(mine) == 2 else None
    if node.op in _ALONG:
        return [merged[mine[0]]] if node.kwargs.get("axis") in (2, -1) else None
    if node.op not in ELEMENTWISE:
        return None
    found = []
    for item in node.args:
        if isinstance(item, Value) and item.rank:
            item = merged.get(item) or _repeated(item, lead)
            if item is None:
                return None
        found.append(item)
    return found


def _repeated(value: Value, lead: tuple[Any, ...]) -> Value | None:
    """An array of three axes or fewer that is the same for every sample: (heads, length, length) before it was tiled."""
    if value.rank < 3 or value.shape[0] == 1:
        return value if value.rank <= 3 else None
    made = value.node
    if made is not None and made.op == "mx.tile" and tuple(made.args[1]) == (lead[0], 1, 1):
        source: Value = made.args[0]
        return source if source.shape[0] == lead[1] else None
    return None
