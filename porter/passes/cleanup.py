"""Removing what nothing reads, and sharing what is computed twice."""

from __future__ import annotations

from typing import Any

from porter.ir import Node, Program, Value


def remove_dead(program: Program) -> int:
    """Drops nodes whose outputs nothing reads. Returns how many."""
    live: set[Value] = set(program.output_values())
    kept: list[Node] = []
    for node in reversed(program.nodes):
        if any(value in live for value in node.outputs):
            kept.append(node)
            live.update(node.inputs())
    removed = len(program.nodes) - len(kept)
    program.nodes = kept[::-1]
    return removed


def written_first(nodes: list[Node]) -> list[Node]:
    """The nodes in their order, but for those that are read before it is their turn."""
    result: dict[Node, None] = {}
    known = set(nodes)
    for node in nodes:
        stack = [node]
        while stack:
            top = stack[-1]
            missing = [v.node for v in top.inputs() if v.node in known and v.node not in result]
            if top in result or not missing:
                result[stack.pop()] = None
            else:
                stack += missing  # type: ignore[arg-type]
    return list(result)


def drop_empty(program: Program) -> int:
    """What is joined with arrays without elements is joined without them. Returns how many went."""
    count = 0
    for node in list(program.nodes):
        if node.op != "mx.concatenate" or not isinstance(node.kwargs.get("axis"), int):
            continue
        axis, parts = node.kwargs["axis"], node.args[0]
        full = [part for part in parts if part.shape[axis] != 0]
        if not full or len(full) == len(parts):
            continue
        count += len(parts) - len(full)
        node.args[0] = full
        if len(full) == 1 and node.output not in program.output_values():
            program.replace({node.output: full[0]})
            program.nodes.remove(node)
    return count


#: In floating point too.
_COMMUTATIVE = ("+", "*")


def share_equal(program: Program) -> int:
    """Nodes of one module call that compute the same from the same are done once. Returns how many were dropped."""
    seen: dict[Any, Node] = {}
    mapping: dict[Value, Value] = {}
    kept: list[Node] = []

    def final(value: Value) -> Value:
        return mapping.get(value, value)

    for node in program.nodes:
        node.replace_inputs(final)
        key = (
            node.op,
            tuple(sorted(_key(node.args), key=str)) if node.op in _COMMUTATIVE else _key(node.args),
            _key(node.kwargs),
            _key(node.attrs),
            _key(node.params),
            node.scope,
            tuple(value.dtype for value in node.outputs),  # a cast has its type there alone
        )
        twin = seen.get(key)
        if twin is None or node.is_layer:
            seen[key] = node
            kept.append(node)
        else:
            mapping.update(zip(node.outputs, twin.outputs, strict=True))
    program.nodes = kept
    program.replace(mapping)
    return len(mapping)


def _key(item: Any) -> Any:
    if isinstance(item, Value):
        return id(item)
    if isinstance(item, (list, tuple)):
        return tuple(map(_key, item))
    if isinstance(item, dict):
        return tuple((key, _key(value)) for key, value in item.items())
    if isinstance(item, slice):
        return ("slice", _key(item.start), _key(item.stop), _key(item.step))
    return (type(item).__name__, item)
