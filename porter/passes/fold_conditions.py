"""Conditions that authors turn into numbers and back, or ask twice: `where(mask, 0, -inf) != 0`, fills of both sides."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.ir.ops import FILLED
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import producer, replace_node

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_NOT = ("~", "mx.logical_not")


def fold_conditions(program: Program) -> int:
    """A question about `mx.where(condition, a, b)`, a and b numbers, is the condition or its opposite. Returns how many.

    So is one about a condition as a number.
    A choice in what the opposite of its condition leaves of another one is that one's other side.
    """
    count = 0
    for node in list(program.nodes):
        inner = producer(node.args[2], "mx.where") if node.op == "mx.where" else None
        if inner is not None and _are_opposites(node.args[0], inner.args[0]):
            node.args = [*inner.args[:2], node.args[1]]
            count += 1
            continue
        twice = producer(node.args[0], *_NOT) if node.op in _NOT else None
        if twice is not None and twice.args[0].dtype == "bool":
            program.replace({node.output: twice.args[0]})
            count += 1
            continue
        asked = _asked(node)
        chosen = producer(node.args[0], "mx.where", ".astype") if asked is not None else None
        if asked is None or chosen is None:
            continue
        condition, *numbers = chosen.args if chosen.op == "mx.where" else (*chosen.args, 1, 0)
        known = [_number(item) for item in numbers]
        if None in known or condition.dtype != "bool" or condition.shape != node.output.shape:
            continue
        yes, no = (bool(asked(number)) for number in known)
        if yes == no:
            continue
        builder = Builder(node.scope, node.location)
        if yes:
            program.replace({node.output: condition})
        else:
            kept = builder.op("~", condition, shape=condition.shape, dtype="bool")
            replace_node(program, node, builder.nodes, kept)
        count += 1
    if count:
        remove_dead(program)
    return count


def _are_opposites(a: Value, b: Value) -> bool:
    """Whether one of two conditions holds just where the other doesn't: no number is both equal and not."""
    for one, other in ((a, b), (b, a)):
        turned = producer(one, *_NOT)
        if turned is not None and turned.args[0] is other and other.dtype == "bool":
            return True
    equal, not_equal = producer(a, "==", "!="), producer(b, "==", "!=")
    return (
        equal is not None
        and not_equal is not None
        and equal.op != not_equal.op
        and all(
            x is y or (not isinstance(x, Value) and not isinstance(y, Value) and x == y)
            for x, y in zip(equal.args, not_equal.args, strict=True)
        )
    )


def _asked(node: Node) -> Callable[[Any], bool] | None:
    """The question about one number that the node asks of each element."""
    if node.op == ".astype" and node.output.dtype == "bool":
        return bool
    if node.op in _COMPARISONS and not isinstance(node.args[1], Value):
        number = _number(node.args[1])
        return None if number is None else lambda x: _COMPARISONS[node.op](x, number)
    return None


def _number(item: Any) -> int | float | None:
    """A number, or what an array of no axes is filled with."""
    if isinstance(item, (int, float)):
        return item
    made = producer(item, *FILLED)
    if made is None or made.output.rank:
        return None
    if made.op == "mx.full":
        return made.args[1] if isinstance(made.args[1], (int, float)) else None
    return 0 if made.op == "mx.zeros" else 1
