"""Positions that are only looked up with, or only reckoned with."""

from __future__ import annotations

from porter.ir import Node, Program, Value

_VIEWS = {"[]", "mx.expand_dims", ".reshape", "mx.broadcast_to"}


def plain_positions(program: Program) -> int:
    """`mx.arange(L)` needs no int64 where embeddings alone read it, and is of floats where it is cast to them at once.
    Returns how many changed their dtype.
    """
    users = program.users()
    outputs = set(program.output_values())
    count = 0
    for node in list(program.nodes):
        if node.op != "mx.arange" or "dtype" not in node.kwargs or node.output.dtype != "int64":
            continue
        readers = users.get(node.output, [])
        if node.output not in outputs and readers and all(map(_is_cast, readers)):
            node.kwargs["dtype"] = node.output.dtype = "float32"
            program.replace({reader.output: node.output for reader in readers})
            program.nodes = [other for other in program.nodes if other not in readers]
            count += 1
            continue
        views = _only_looked_up(node.output, users, outputs)
        if views is not None:
            del node.kwargs["dtype"]
            for value in views:
                value.dtype = "int32"
            count += 1
    return count


def _is_cast(node: Node) -> bool:
    """To floats that hold every position there can be."""
    return node.op == ".astype" and node.output.dtype == "float32"


def _only_looked_up(
    value: Value, users: dict[Value, list[Node]], outputs: set[Value]
) -> list[Value] | None:
    """The value and the views of it, where embeddings alone read them; None where something else does."""
    found = [value]
    if value in outputs:
        return None
    for user in users.get(value, []):
        if user.op == "nn.Embedding":
            continue
        below = None
        if user.op in _VIEWS and user.args[0] is value:
            below = _only_looked_up(user.output, users, outputs)
        if below is None:
            return None
        found += below
    return found
