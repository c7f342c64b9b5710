"""Indices stay the whole numbers that MLX's sorts and searches give."""

from __future__ import annotations

from porter.ir import Node, Program, Value

_WHOLE = ("int32", "int64", "uint32")


def drop_index_casts(program: Program) -> int:
    """Indexes by places as they are, not cast to another whole type: `experts` for `experts.astype(mx.int64)`.

    Returns how many readers lost a cast.
    """
    count = 0
    for node in program.nodes:
        for value in _indices(node):
            cast = value.node
            if cast is None or cast.op != ".astype" or value.dtype not in _WHOLE:
                continue
            places = cast.args[0]
            if places.dtype not in _WHOLE or places.is_parameter:
                continue
            node.replace_inputs(lambda v, old=value, new=places: new if v is old else v)  # type: ignore[misc]
            places.name = places.name or value.name
            count += 1
    return count


def _indices(node: Node) -> list[Value]:
    """The arrays that a node does nothing with but index by them."""
    if node.op in ("[]", "[]="):
        found = [part for part in node.attrs.get("key", ()) if isinstance(part, Value)]
    elif node.op in ("mx.take", "mx.take_along_axis", "mx.put_along_axis"):
        found = [node.args[1]]
    elif node.op == "nn.Embedding":
        found = [node.args[0]]
    else:
        return []
    others = [value for value in node.inputs() if value not in found]
    reads = len(node.inputs()) - len(others)
    return found if reads == len(found) else []  # each is read in no other place
