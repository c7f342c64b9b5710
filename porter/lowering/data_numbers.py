"""Numbers that the author's code takes out of arrays: `x / x.max().item()` divides by an array of one element."""

from __future__ import annotations

import operator
from typing import Any

import torch

from porter.ir import Value
from porter.ir.builder import Builder

_ARITHMETIC = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.pow: "**", operator.neg: "neg",
}  # fmt: skip


def data_number(importer: Any, node: Any) -> Value | None:
    """The number that a node takes from an array, or works out from such numbers, as an array without axes.

    A whole number may be a size, and stays one.
    """
    if not isinstance(node.meta.get("val"), torch.SymFloat):
        return None
    build = Builder(importer.frames(node), importer.location(node))
    given = [importer.argument(item) for item in node.args]
    if importer.target(node) == "aten.item.default":
        result = build.reshape(given[0], ())
    elif node.target in _ARITHMETIC and any(isinstance(item, Value) for item in given):
        dtype = next(item.dtype for item in given if isinstance(item, Value))
        result = build.op(_ARITHMETIC[node.target], *given, shape=(), dtype=dtype)
    else:
        return None
    importer.program.nodes += build.nodes
    return result
