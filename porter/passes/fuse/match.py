"""Looking through a program for a fusion's pattern."""

from __future__ import annotations

from typing import Any

from porter.ir import Node, Program, Value


def producer(value: Any, *ops: str) -> Node | None:
    """The node that writes the value, if its op is one of `ops`."""
    if isinstance(value, Value) and value.node is not None and value.node.op in ops:
        return value.node
    return None


def commuted(node: Node) -> list[tuple[Any, Any]]:
    """The operands of a commutative op in both orders."""
    a, b = node.args
    return [(a, b), (b, a)]


def is_number(item: Any, value: float | None = None, tolerance: float = 1e-6) -> bool:
    if not isinstance(item, (int, float)) or isinstance(item, bool):
        return False
    return value is None or abs(item - value) <= tolerance * max(1.0, abs(value))


def through_casts(value: Any) -> Any:
    """What a chain of `astype` reads."""
    while (cast := producer(value, ".astype")) is not None:
        value = cast.args[0]
    return value


def replace_node(program: Program, old: Node, new: list[Node], result: Value) -> None:
    """Puts `new` in the place of `old`; `result` takes over its output's identity."""
    result.origin, result.permute, result.name = (
        old.output.origin,
        old.output.permute,
        old.output.name,
    )
    position = program.nodes.index(old)
    program.nodes[position : position + 1] = new
    program.replace({old.output: result})
