"""Recurrences over tokens, however a source unrolls them: in chunks, as sums of decays, or token by token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sympy

from porter.ir import Frame, Node, Program, Value
from porter.ir.ops import ACTIVATIONS, ELEMENTWISE
from porter.passes.cache.tokenwise import STATEFUL, has_tokens, mixes_tokens
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.fuse_attention import ATTENTION
from porter.passes.fuse.match import replace_node
from porter.passes.fuse.recurrences import RECURRENCES, recognize
from porter.passes.positions import length_symbol, position_values

#: What is taken into a piece from before it: it treats each token by itself and moves no features.
_BEFORE = (
    ELEMENTWISE
    | ACTIVATIONS
    | {"mx.repeat", "mx.broadcast_to", "mx.expand_dims", ".squeeze", ".transpose", "mx.sum"}
)
_MOST = 6000  # nodes of a piece


@dataclass(slots=True)
class Piece:
    """Nodes of one module call that give `last` from `entries`, arrays with tokens and parameters."""

    nodes: list[Node]
    entries: list[Value]
    last: Value


def fuse_scans(program: Program) -> int:
    """A part of a module that carries a state over the tokens becomes one call. Returns how many.

    The part is what lies between nodes that look along the tokens, apart from attention and causal convolutions. It is
    run on random features and compared with the recurrences that are known, so that every way to write one is found. What
    lies before it is taken in as far as that recurrence has it too (a softplus of the step, the sign of a decay).
    """
    length = length_symbol(program)
    if length is None:
        return 0
    count = 0
    positions = position_values(program)
    known: dict[Any, Any] = {}
    for scope in _scopes(program, length):
        piece = _piece(program, scope, length, positions)
        if piece is None:
            continue
        for wider in _widened(program, piece, length, positions):
            key = _signature(wider)
            if key not in known:
                known[key] = recognize(program, wider.nodes, wider.entries, wider.last)
            if known[key] is not None:
                name, order, numbers = known[key]
                args = [wider.entries[i] for i in order]
                new = RECURRENCES[name].build(wider.last, args, numbers, length)
                replace_node(program, wider.last.node, *new)  # type: ignore[arg-type]
                count += 1
                break
    if count:
        remove_dead(program)
    return count


def _mixes(node: Node, length: sympy.Symbol) -> bool:
    if node.op in ATTENTION or node.op in STATEFUL:
        return False
    if node.is_layer or node.op == "as_linear":
        return False
    arrays = list(node.inputs())
    before = any(has_tokens(v, length) for v in arrays)
    if arrays and before != any(has_tokens(v, length) for v in node.outputs):
        return True  # one token of them, or as many as there are
    return mixes_tokens(node, length) is not None


def _scopes(program: Program, length: sympy.Symbol) -> list[tuple[Frame, ...]]:
    return list(dict.fromkeys(n.scope for n in program.nodes if _mixes(n, length)))


def _piece(
    program: Program, scope: tuple[Frame, ...], length: sympy.Symbol, positions: set[Value]
) -> Piece | None:
    """What lies between the nodes of a module call that look along the tokens, if one array with tokens comes of it."""
    inside = [
        n for n in program.nodes if n.scope[: len(scope)] == scope and n.outputs[0] not in positions
    ]
    mixing = {n for n in inside if _mixes(n, length) and n.scope == scope}
    after, before = set(mixing), set(mixing)
    for node in inside:
        if any(v.node in after for v in node.inputs()):
            after.add(node)
    makers = {v: n for n in inside for v in n.outputs}
    for node in reversed(inside):
        if node in before:
            before.update(makers[v] for v in node.inputs() if v in makers)
    nodes = [n for n in inside if n in after and n in before]
    if not nodes or len(nodes) > _MOST or any(n.is_layer and n.params for n in nodes):
        return None
    written = {v for n in nodes for v in n.outputs}
    outside = {v for n in program.nodes if n not in set(nodes) for v in n.inputs()}
    results = [v for v in written if v in outside or v in program.output_values()]
    if len(results) != 1 or not has_tokens(results[0], length):
        return None
    return Piece(nodes, _entries(nodes, positions), results[0])


def _entries(nodes: list[Node], positions: set[Value]) -> list[Value]:
    written = {v for n in nodes for v in n.outputs}
    read = dict.fromkeys(v for n in nodes for v in n.inputs())
    return [v for v in read if v not in written and v not in positions]


def _widened(
    program: Program, piece: Piece, length: sympy.Symbol, positions: set[Value]
) -> Iterator[Piece]:
    """The piece with what follows and comes right before it, the widest first."""
    users = program.users()
    longer = _with_residual(program, piece, length, users, positions)
    for start in [piece] if longer is None else [longer, piece]:
        grown, nodes = [start], set(start.nodes)
        while more := _right_before(grown[-1].entries, nodes, users, positions):
            nodes |= more
            ordered = [n for n in program.nodes if n in nodes]
            grown.append(Piece(ordered, _entries(ordered, positions), start.last))
        yield from reversed(grown)


def _right_before(
    entries: list[Value], nodes: set[Node], users: dict[Value, list[Node]], positions: set[Value]
) -> set[Node]:
    """The makers of entries that may be taken in: what is made of parameters, and what nothing else reads."""
    more = set()
    for value in entries:
        node = value.node
        if node is None or node in nodes:
            continue
        stored = all(v.is_parameter or v in positions for v in _sources(node))
        read = {u for v in node.outputs for u in users.get(v, [])}
        if stored or (node.op in _BEFORE and read <= nodes):
            more.add(node)
    return more


def _with_residual(
    program: Program,
    piece: Piece,
    length: sympy.Symbol,
    users: dict[Value, list[Node]],
    positions: set[Value],
) -> Piece | None:
    """The piece and a sum after it of its result and of an entry times a parameter."""
    readers = users.get(piece.last, [])
    if len(readers) != 1 or readers[0].op != "+" or piece.last in program.output_values():
        return None
    total = readers[0]
    other = next((v for v in total.args if isinstance(v, Value) and v is not piece.last), None)
    if other is None or other.node is None or other.node.op != "*" or users[other] != [total]:
        return None
    if not any(v in piece.entries or not has_tokens(v, length) for v in other.node.inputs()):
        return None
    nodes = {*piece.nodes, other.node, total}
    ordered = [n for n in program.nodes if n in nodes]
    return Piece(ordered, _entries(ordered, positions), total.output)


def _sources(node: Node) -> Iterator[Value]:
    """What a value is made from in the end: inputs and parameters."""
    stack, seen = list(node.inputs()), set()
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        if value.node is None:
            yield value
        else:
            stack += value.node.inputs()


def _signature(piece: Piece) -> Any:
    """What the piece computes, up to which arrays it reads."""
    names: dict[Value, int] = {v: i for i, v in enumerate(piece.entries)}

    def code(item: Any) -> Any:
        if isinstance(item, Value):
            return ("value", names.get(item, -1), str(item.shape), item.dtype)
        if isinstance(item, (list, tuple)):
            return tuple(map(code, item))
        if isinstance(item, dict):
            return tuple((key, code(part)) for key, part in item.items())
        return str(item)

    rows = []
    for node in piece.nodes:
        rows.append((node.op, code(node.args), code(node.kwargs), code(node.attrs)))
        for value in node.outputs:
            names[value] = len(names)
    return tuple(rows)
