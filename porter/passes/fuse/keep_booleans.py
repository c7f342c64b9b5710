"""Masks that only say which keys count are boolean."""

from __future__ import annotations

from math import inf

from porter.ir import Program, Value
from porter.ir.builder import Builder
from porter.passes.fuse.match import is_number, producer

_SDPA = "mx.fast.scaled_dot_product_attention"
#: What is added to this or less is lost in float32: where all keys are hidden so, they count the same.
_BEYOND = -1e9


def keep_booleans(program: Program) -> int:
    """Masks that add 0 or hide become boolean, also where it is asked which keys they leave. Returns how many."""
    found: dict[Value, Value] = {}
    for node in list(program.nodes):
        mask = node.kwargs.get("mask") if node.op == _SDPA else None
        if not isinstance(mask, Value):
            continue
        if mask not in found:
            builder = Builder(node.scope, node.location)
            kept = _kept(mask, builder)
            if kept is None:
                continue
            found[mask] = kept
            position = program.nodes.index(mask.node) + 1 if mask.node in program.nodes else 0
            program.nodes[position:position] = builder.nodes
        node.kwargs["mask"] = found[mask]
    asked = {
        node.output: found[node.args[0]]
        for node in program.nodes
        if node.op == ">" and node.args[0] in found and node.args[1] == -inf
    }
    program.replace(asked)
    return len(found)


def _kept(mask: Value, builder: Builder) -> Value | None:
    """Which keys are kept, where a mask adds 0 for these and hides the others; views of such a mask are views of that."""
    view = producer(mask, ".reshape", "mx.broadcast_to")
    if view is not None:
        inner = _kept(view.args[0], builder)
        if inner is None:
            return None
        return builder.op(view.op, inner, *view.args[1:], shape=mask.shape, dtype="bool")
    node = producer(mask, "mx.where")
    if node is None:
        return None
    condition, yes, no = node.args
    if not isinstance(condition, Value) or condition.rank != mask.rank:
        return None
    for zero, hidden, is_kept in ((yes, no, True), (no, yes, False)):
        nothing = zero == 0 if is_number(zero) else producer(zero, "mx.zeros") is not None
        if nothing and is_number(hidden) and hidden <= _BEYOND:
            return condition if is_kept else negated(builder, condition)
    return None


def negated(builder: Builder, condition: Value) -> Value:
    node = condition.node
    if node is not None and node.op in ("~", "mx.logical_not"):
        return node.args[0]
    if node is not None and node.op in ("==", "!="):
        op = "!=" if node.op == "==" else "=="
        return builder.op(op, *node.args, shape=condition.shape, dtype="bool")
    return builder.op("~", condition, shape=condition.shape, dtype="bool")
