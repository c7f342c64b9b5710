"""Arithmetic in its shortest form, once no pass looks for its parts any more."""

from __future__ import annotations

from collections.abc import Callable

from porter.ir import Node, Program, Value
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import producer


def simplify_arithmetic(program: Program) -> int:
    """Roots of sums of squares are norms, reciprocals are `1 / x`, and conditions are cast once. Returns how many changed."""
    users, outputs = program.users(), program.output_values()

    def alone(value: Value) -> bool:
        return len(users.get(value, [])) == 1 and value not in outputs

    count = 0
    for node in program.nodes:
        if node.op == "mx.reciprocal":
            node.op, node.args = "/", [1, *node.args]
        elif not (_name_norm(node, alone) if node.op == "mx.sqrt" else _cast_once(node)):
            continue
        count += 1
    if count:
        remove_dead(program)
    return count


def _name_norm(node: Node, alone: Callable[[Value], bool]) -> bool:
    """mx.sqrt(mx.square(x).sum(axis)) over one axis."""
    total = producer(node.args[0], "mx.sum")
    squares = producer(total.args[0], "mx.square") if total is not None else None
    if total is None or squares is None or not alone(total.output):
        return False
    if squares.scope != node.scope or not isinstance(total.kwargs.get("axis"), int):
        return False
    node.op, node.args, node.kwargs = "mx.linalg.norm", list(squares.args), dict(total.kwargs)
    return True


def _cast_once(node: Node) -> bool:
    """A condition that is cast to whole numbers first."""
    inner = producer(node.args[0], ".astype") if node.op == ".astype" else None
    if inner is None or inner.args[0].dtype != "bool" or inner.scope != node.scope:
        return False
    if node.output.dtype == "bool":
        return False
    node.args[0] = inner.args[0]
    return True
