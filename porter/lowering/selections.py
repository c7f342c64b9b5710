"""`x[mask] = values[mask]` as a choice: nobody has to wait for how many places a mask has."""

from __future__ import annotations

from typing import Any

from porter.ir import Value
from porter.ir.builder import Builder, broadcast_shapes

#: Ops that work on each element, and whose gradient is finite where the mask is False and nothing is to come of them.
_ELEMENTWISE = {
    "+", "-", "*", "neg", ".astype", "mx.maximum", "mx.minimum", "mx.clip", "mx.abs", "mx.square", "mx.where", "mx.sin",
    "mx.cos", "mx.tanh", "mx.sigmoid", "mx.round", "mx.floor", "==", "!=", "<", "<=", ">", ">=", "&", "|", "~",
}  # fmt: skip


def unselected(build: Builder, values: Value, mask: Value) -> Value | None:
    """What `values` are selected from by this very mask, element by element; None where they are anything else.

    `dist[mask]` comes from dist, `x[mask] * 2` from x * 2.
    """
    node = values.node
    if node is None or len(node.outputs) != 1:
        return None
    if node.op == "fn.masked_select":
        whole, by = node.args
        return whole if _is_same(by, mask) else None
    if node.op not in _ELEMENTWISE or node.params:
        return None
    given: list[Any] = []
    for argument in node.args:
        if isinstance(argument, Value) and argument.rank:
            whole = unselected(build, argument, mask)
            if whole is None:
                return None
            given.append(whole)
        else:
            given.append(argument)
    shapes = [value.shape for value in given if isinstance(value, Value)]
    if not any(shapes):
        return None
    return build.op(
        node.op, *given, shape=broadcast_shapes(*shapes), dtype=values.dtype, **node.kwargs
    )


def _is_same(a: Any, b: Any, depth: int = 3) -> bool:
    """Whether two masks are one, or computed alike from the same arrays."""
    if a is b:
        return True
    if not isinstance(a, Value) or not isinstance(b, Value):
        return (
            not isinstance(a, Value) and not isinstance(b, Value) and type(a) is type(b) and a == b
        )
    one, other = a.node, b.node
    if one is None or other is None or not depth or one.op != other.op:
        return False
    plain = not (one.params or other.params or one.attrs or other.attrs or one.is_layer)
    return (
        plain
        and one.kwargs == other.kwargs
        and len(one.args) == len(other.args)
        and all(_is_same(x, y, depth - 1) for x, y in zip(one.args, other.args, strict=True))
    )
