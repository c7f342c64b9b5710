"""A tensor of one number that the author wrote into the model is a number in MLX."""

from __future__ import annotations

from math import isnan
from typing import Any

from porter.ir import Node, Program, Value
from porter.ir.builder import promote
from porter.passes.fuse.match import producer

#: Ops that take a number where they take an array.
_TAKES_NUMBERS = {
    "+", "-", "*", "/", "**", "==", "!=", "<", "<=", ">", ">=", "mx.where", "mx.maximum", "mx.minimum",
}  # fmt: skip


def inline_scalars(program: Program) -> int:
    """`mx.where(mask, scores, self.mask_value)` becomes `mx.where(mask, scores, -1e4)`; returns how many changed."""
    changed = 0
    for node in program.nodes:
        if node.op not in _TAKES_NUMBERS:
            continue
        for place, argument in enumerate(node.args):
            number = _number(argument)
            if number is not None and _keeps_type(node, place):
                node.args[place] = number
                changed += 1
    return changed


def _number(argument: Any) -> bool | int | float | None:
    if not isinstance(argument, Value):
        return None
    filled = producer(argument, "mx.full")
    if filled is not None and argument.shape == () and isinstance(filled.args[1], (int, float)):
        number = filled.args[1]
        return None if isinstance(number, float) and isnan(number) else number
    if not argument.is_parameter:
        return None
    if argument.shape != () or argument.data is None or "complex" in argument.dtype:
        return None
    number = argument.data.item()
    return None if isinstance(number, float) and isnan(number) else number


def _keeps_type(node: Node, place: int) -> bool:
    """Whether the other arrays alone decide the result's shape and type."""
    first = 1 if node.op == "mx.where" else 0
    if place < first:
        return False
    others = [
        a for i, a in enumerate(node.args) if isinstance(a, Value) and i >= first and i != place
    ]
    if not others:
        return False
    made = promote(*others)
    if node.op in ("**", "/") and made.startswith("int"):
        made = "float32"  # with a fraction
        return node.output.dtype == made and isinstance(_number(node.args[place]), float)
    return node.output.dtype in ("bool", made)
