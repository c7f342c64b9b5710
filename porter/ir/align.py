"""Two programs of one structure, node by node."""

from __future__ import annotations

from typing import Any

from porter.ir.program import Node, Program, Value


def align(program: Program, other: Program) -> tuple[dict[Node, Node], dict[Value, Value]] | None:
    """Each node and value of `program` with its like in `other`; None where the two do not compute in the same steps.

    The like may differ in its numbers and in the sizes of its arrays, not in ops, modules, ranks or the symbols of sizes.
    """
    nodes = [node for node in program.nodes if node.op != "size"]  # which were put in since
    if program.dims.keys() != other.dims.keys() or len(nodes) != len(other.nodes):
        return None
    values: dict[Value, Value] = {}

    def same(a: Any, b: Any) -> bool:
        if isinstance(a, Value):
            if not isinstance(b, Value) or a.rank != b.rank or a.dtype != b.dtype:
                return False
            return values.setdefault(a, b) is b
        if isinstance(a, (list, tuple)):
            return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
        if isinstance(a, dict):
            return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
        if isinstance(a, slice):
            return isinstance(b, slice) and same(
                [a.start, a.stop, a.step], [b.start, b.stop, b.step]
            )
        return (a is None) == (b is None)

    for a, b in zip(nodes, other.nodes, strict=True):
        alike = a.op == b.op and a.scope == b.scope
        attrs = {key: value for key, value in a.attrs.items() if key != "sizes"}
        parts = ((a.args, b.args), (a.kwargs, b.kwargs), (attrs, b.attrs), (a.params, b.params))
        if not alike or not all(same(x, y) for x, y in (*parts, (a.outputs, b.outputs))):
            return None
    if not same(program.inputs, other.inputs) or not same(
        program.output_values(), other.output_values()
    ):
        return None
    return dict(zip(nodes, other.nodes, strict=True)), values
