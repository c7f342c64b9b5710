"""Positions that are made floats and integers again."""

from __future__ import annotations

from typing import Any

import sympy

from porter.ir import Program, Value
from porter.ir.builder import Builder
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import replace_node
from porter.passes.positions import position_values

_VIEWS = {"[]", "mx.expand_dims", ".reshape", "mx.broadcast_to"}
_INTEGERS = ("int32", "int64")


def keep_integers(program: Program) -> int:
    """Sums and products of positions and whole numbers that floats carry to integers are done in integers.

    Positions are exact in float32. Returns how many.
    """
    positions = position_values(program)
    count = 0
    for node in list(program.nodes):
        if node.op != ".astype" or node.output.dtype not in _INTEGERS:
            continue
        source = node.args[0]
        if source not in positions or not source.dtype.startswith("float"):
            continue
        builder = Builder(node.scope, node.location)
        whole = _whole(builder, source)
        if not isinstance(whole, Value) or not builder.nodes:
            continue
        result = builder.cast(whole, node.output.dtype)
        replace_node(program, node, builder.nodes, result)
        count += 1
    if count:
        remove_dead(program)
    return count


def _whole(builder: Builder, item: Any) -> Any:
    """The same in integers; None where a fraction may be in it."""
    if not isinstance(item, Value):
        return _whole_number(item)
    if item.dtype in _INTEGERS:
        return item
    node = item.node
    if node is None:
        return None
    if node.op == ".astype":
        return node.args[0] if node.args[0].dtype in _INTEGERS else None
    if node.op in _VIEWS:
        inner = _whole(builder, node.args[0])
        if not isinstance(inner, Value):
            return None
        return builder.node(
            node.op, inner, *node.args[1:], shapes=[item.shape], dtypes=[inner.dtype], attrs=dict(node.attrs), **node.kwargs
        ).output  # fmt: skip
    if node.op not in ("+", "-", "*"):
        return None
    first, second = (_whole(builder, part) for part in node.args)
    if first is None or second is None:
        return None
    if node.op == "*" and 1 in (first, second):
        return second if first == 1 else first
    return builder.op(node.op, first, second, shape=item.shape)


def _whole_number(number: Any) -> Any:
    """The integer, or the size, that a number is; None for a fraction."""
    if isinstance(number, (int, float)):
        return int(number) if float(number).is_integer() else None
    casts = (lambda part: type(part).__name__ == "ToFloat"), (lambda part: part.args[0])
    size = sympy.sympify(number).replace(*casts)
    size = sympy.nsimplify(size, rational=True)
    return size if size.is_integer else None
