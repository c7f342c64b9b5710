"""Queries or keys that are scaled before attention (Whisper and BART scale the projection's output)."""

from __future__ import annotations

from typing import Any

from porter.ir import Node, Program, Value
from porter.passes.fuse.match import is_number, producer

#: What a factor of all of an array goes through unchanged.
_LINEAR = (
    ".reshape",
    ".transpose",
    ".squeeze",
    "mx.expand_dims",
    "mx.broadcast_to",
    "[]",
    "nn.RoPE",
)


def fold_scale(program: Program) -> int:
    """A number that queries or keys are multiplied with, before their heads are split, joins attention's own scale.

    Returns how many multiplications went.
    """
    users = program.users()
    count = 0
    for node in program.nodes:
        if node.op != "mx.fast.scaled_dot_product_attention":
            continue
        for operand in node.args[:2]:
            product = _product(operand, users)
            if product is not None and isinstance(node.kwargs.get("scale"), float):
                scaled, factor = _parts(product)
                node.kwargs["scale"] *= factor
                program.replace({product.output: scaled})
                program.nodes.remove(product)
                users = program.users()
                count += 1
    return count


def _product(value: Value, users: dict[Value, list[Node]]) -> Node | None:
    """The multiplication behind views and rotations that nothing else reads."""
    while len(users.get(value, [])) == 1:
        product = producer(value, "*", "/")
        if product is not None:
            return product if _parts(product)[0] is not None else None
        view = producer(value, *_LINEAR)
        if view is None:
            return None
        value = view.args[0]
    return None


def _parts(product: Node) -> tuple[Any, float]:
    """(x, c) of x * c, c * x or x / c; x is None where no side is a number."""
    a, b = product.args
    if isinstance(a, Value) and is_number(b):
        return a, b if product.op == "*" else 1 / b
    return (b, a) if product.op == "*" and is_number(a) else (None, 1.0)
