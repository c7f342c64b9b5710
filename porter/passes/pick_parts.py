"""What is taken from arrays that were just put side by side."""

from __future__ import annotations

from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import producer, replace_node


def pick_parts(program: Program) -> int:
    """`mx.concatenate([a[None], b])[0]` is a, and `[2]` of it is b[1]. Returns how many were rewritten."""
    count = 0
    for node in list(program.nodes):
        found = _part(node)
        if found is None:
            continue
        part, place = found
        builder = Builder(node.scope, node.location)
        axis = len(node.attrs["key"]) - 1
        widened = producer(part, "mx.expand_dims")
        if widened is not None and widened.args[1] == axis:
            value = widened.args[0]
        else:
            part, place = _before_cut(part, place, axis)
            value = builder.index(part, (*[slice(None)] * axis, place), node.output.shape)
        replace_node(program, node, builder.nodes, value)
        count += 1
    if count:
        remove_dead(program)
    return count


def _part(node: Node) -> tuple[Value, int] | None:
    """The part that one place along the joined axis lies in, and where in it."""
    joined = producer(node.args[0], "mx.concatenate") if node.op == "[]" else None
    key = list(node.attrs.get("key", ()))
    if joined is None or not key or len(key) != joined.kwargs.get("axis", 0) + 1:
        return None
    *whole, place = key
    if any(part != slice(None) for part in whole) or type(place) is not int or place < 0:
        return None
    for part in joined.args[0]:
        size = part.shape[len(key) - 1]
        if not isinstance(size, int):
            return None
        if place < size:
            return part, place
        place -= size
    return None


def _before_cut(part: Value, place: int, axis: int) -> tuple[Value, int]:
    """The array that the part is a slice of along the axis, and the place in that."""
    cut = producer(part, "[]")
    key = list(cut.attrs["key"]) if cut is not None else []
    if cut is None or len(key) != axis + 1 or any(other != slice(None) for other in key[:-1]):
        return part, place
    start = key[-1].start or 0 if isinstance(key[-1], slice) and key[-1].step is None else None
    if not isinstance(start, int) or start < 0:
        return part, place
    return cut.args[0], place + start
