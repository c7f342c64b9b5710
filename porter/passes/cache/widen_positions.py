"""Positions of one row for all samples become a row for each: in a padded batch they differ."""

from __future__ import annotations

from typing import Any

import sympy

from porter.ir import Node, Program, Value, values_in
from porter.ir.builder import broadcast_shapes
from porter.ir.ops import ELEMENTWISE
from porter.passes.cleanup import remove_dead


def widen_positions(program: Program, length: sympy.Symbol) -> int:
    """What is made of `mx.arange(L)`, of shape (L, ...), gets an axis for samples before it, as far as that goes.

    Look-ups in tables of positions and factors by position follow; where the result meets (batch, L, ...) it fits as it is.
    Returns how many nodes were written anew.
    """
    wide: dict[Value, Value] = {}
    nodes: list[Node] = []
    for node in program.nodes:
        nodes.append(node)
        if node.op == "mx.arange" and node.output.shape == (length,):
            wide[node.output] = _add(nodes, node, "mx.expand_dims", [node.output, 0], (1, length))
            continue
        narrow = [v for v in values_in(node.args) if v in wide]
        if not narrow or len(node.outputs) != 1:
            continue
        old = node.output
        if _adds_first_axis(node, narrow[0]):
            w = wide[narrow[0]]
            if old.shape == w.shape:
                program.replace({old: w})
                continue
            axes = tuple(range(w.rank, old.rank))
            new = _add(nodes, node, "mx.expand_dims", [w, axes[0] if len(axes) == 1 else axes], old.shape)  # fmt: skip
            program.replace({old: new})
        elif node.op == "nn.Embedding" or node.op in ELEMENTWISE:
            args = [wide.get(a, a) if isinstance(a, Value) else a for a in node.args]
            others = [v for v in values_in(node.args) if v not in wide]
            if node.op != "nn.Embedding" and any(v.rank > narrow[0].rank for v in others):
                if broadcast_shapes(*(v.shape for v in values_in(args))) == old.shape:
                    node.args = args
                continue
            if node.op != "nn.Embedding" and any(v.rank == old.rank and v.shape[0] != 1 for v in others):  # fmt: skip
                continue
            wide[old] = _add(nodes, node, node.op, args, (1, *old.shape))
    program.nodes = nodes
    if wide:
        remove_dead(program)
    return len(wide)


def _adds_first_axis(node: Node, source: Value) -> bool:
    """Whether it puts an axis of size 1 first, and maybe more of them last."""
    if node.op not in ("mx.expand_dims", ".reshape", "[]") or node.args[0] is not source:
        return False
    if node.op == "[]" and any(p is not None and p != slice(None) for p in node.attrs["key"]):
        return False
    shape = node.output.shape
    end = 1 + source.rank
    return shape[:end] == (1, *source.shape) and all(size == 1 for size in shape[end:])


def _add(nodes: list[Node], like: Node, op: str, args: list[Any], shape: tuple[Any, ...]) -> Value:
    new = Node(op, args, scope=like.scope, location=like.location)
    if op == like.op:
        new.kwargs, new.attrs, new.params = dict(like.kwargs), dict(like.attrs), dict(like.params)
    new.outputs = [Value(shape, like.output.dtype, new, like.output.name)]
    nodes.append(new)
    return new.output
