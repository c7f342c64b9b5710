"""Queries or keys that are scaled before attention (Whisper and BART scale the projection's output)."""

from __future__ import annotations

from porter.ir import Node, Program, Value
from porter.passes.fuse.match import is_number, producer

_VIEWS = (".reshape", ".transpose")


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
                node.kwargs["scale"] *= product.args[1]
                program.replace({product.output: product.args[0]})
                program.nodes.remove(product)
                users = program.users()
                count += 1
    return count


def _product(value: Value, users: dict[Value, list[Node]]) -> Node | None:
    """The multiplication behind views that nothing else reads."""
    while len(users.get(value, [])) == 1:
        product = producer(value, "*")
        if product is not None:
            return (
                product
                if isinstance(product.args[0], Value) and is_number(product.args[1])
                else None
            )
        view = producer(value, *_VIEWS)
        if view is None:
            return None
        value = view.args[0]
    return None
