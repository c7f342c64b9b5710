"""Softmaxes and masks that authors spell out with more arithmetic than they need."""

from __future__ import annotations

from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.ir.evaluate import Unknown
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import commuted, producer, replace_node
from porter.passes.masks import HIDDEN
from porter.passes.positions import as_array, at_length, position_values

_LENGTH = 12


def plain_softmax(program: Program) -> int:
    """softmax(x - max(x)) is softmax(x), and x * b + c (1 - b) with c very negative is x where the mask b is 1.

    Returns how many were rewritten.
    """
    positions = position_values(program)
    count = 0
    for node in list(program.nodes):
        if node.op == "mx.softmax":
            count += _unshifted(node)
        elif node.op == "+" and node.output.rank >= 2:
            count += _masked(program, node, positions)
    if count:
        remove_dead(program)
    return count


def _unshifted(node: Node) -> bool:
    """Whether a largest element was taken off first; MLX's softmax does so itself."""
    shifted = producer(node.args[0], "-")
    largest = producer(shifted.args[1], "mx.max") if shifted is not None else None
    if shifted is None or largest is None or largest.args[0] is not shifted.args[0]:
        return False
    same = _axis(node) is not None and _axis(node) == _axis(largest)
    if not same or not largest.kwargs.get("keepdims"):
        return False
    node.args[0] = shifted.args[0]
    return True


def _axis(node: Node) -> int | None:
    """The one axis that it works along, counted from the first."""
    axis = node.kwargs.get("axis")
    if isinstance(axis, (tuple, list)) and len(axis) == 1:
        axis = axis[0]
    return axis % node.args[0].rank if isinstance(axis, int) else None


def _masked(program: Program, node: Node, positions: set[Value]) -> bool:
    for product, low in commuted(node):
        scaled = producer(product, "*")
        if scaled is None or low not in positions:
            continue
        for scores, kept in commuted(scaled):
            if kept not in positions or not isinstance(scores, Value) or scores in positions:
                continue
            fill = _fill(program, kept, low)
            if fill is None or scores.shape != node.output.shape:
                continue
            builder = Builder(node.scope, node.location)
            mask = builder.op("!=", kept, 0, shape=kept.shape, dtype="bool")
            result = builder.op("mx.where", mask, scores, fill, shape=scores.shape, dtype=scores.dtype)  # fmt: skip
            replace_node(program, node, builder.nodes, result)
            return True
    return False


def _fill(program: Program, kept: Value, low: Value) -> float | None:
    """What hidden scores become, where `kept` is 1 or 0 and `low` is 0 or that."""
    try:
        probe = at_length(program, _LENGTH)
        shown, added = as_array(probe(kept)), as_array(probe(low))
    except (Unknown, ValueError, IndexError):
        return None
    hidden = shown == 0
    if shown.shape != added.shape or not (hidden | (shown == 1)).all() or not hidden.any():
        return None
    fill = float(added[hidden].max())
    return fill if fill <= HIDDEN and not added[~hidden].any() else None
