"""Attention sinks that scale attention's result by what a learned score would have left of it."""

from __future__ import annotations

from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import commuted, producer, replace_node


def fuse_sinks(program: Program) -> int:
    """(softmax(s) v) sigmoid(logsumexp(s) - sink) is softmax([s, sink]) without its last column, times v. Returns how many.

    With z the sum of exp(s), the factor is z / (z + exp(sink)).
    """
    count = 0
    for node in list(program.nodes):
        found = _found(node)
        if found is None:
            continue
        product, softmax, sinks = found
        scores = softmax.args[0]
        builder = Builder(product.scope, product.location)
        column = builder.reshape(sinks, (1, scores.shape[1], 1, 1))
        shape = (*scores.shape[:3], 1)
        column = builder.op("mx.broadcast_to", column, shape, shape=shape, dtype=sinks.dtype)
        wide = (*scores.shape[:3], scores.shape[3] + 1)
        joined = builder.op("mx.concatenate", [scores, column], axis=3, shape=wide, dtype=scores.dtype)  # fmt: skip
        weights = builder.op("mx.softmax", joined, axis=3, shape=wide, dtype=scores.dtype)
        key = (*(slice(None),) * 3, slice(None, -1, None))
        kept = builder.index(weights, key, scores.shape)
        result = builder.op("@", kept, product.args[1], shape=product.output.shape)
        replace_node(program, node, builder.nodes, result)
        count += 1
    if count:
        remove_dead(program)
    return count


def _found(node: Node) -> tuple[Node, Node, Value] | None:
    """(the product with the values, its softmax, the sinks (heads,)) where the node scales attention's result so."""
    if node.op != "*" or node.output.rank != 4:
        return None
    for result, factor in commuted(node):
        product, opened = producer(result, "@"), producer(factor, "mx.expand_dims", ".reshape")
        softmax = producer(product.args[0], "mx.softmax") if product is not None else None
        gate = producer(opened.args[0], "mx.sigmoid", "nn.sigmoid") if opened is not None else None
        less = producer(gate.args[0], "-") if gate is not None else None
        total = producer(less.args[0], "mx.logsumexp") if less is not None else None
        if product is None or softmax is None or less is None or total is None:
            continue
        scores = softmax.args[0]
        over_keys = softmax.kwargs.get("axis") == 3 and total.kwargs.get("axis") in (3, (3,), [3])
        shaped = producer(less.args[1], ".reshape")
        sinks = shaped.args[0] if shaped is not None else None
        if (
            total.args[0] is scores
            and over_keys
            and scores.rank == 4
            and not total.kwargs.get("keepdims")
            and sinks is not None
            and sinks.shape == (scores.shape[1],)
            and less.args[1].shape == (1, scores.shape[1], 1)
        ):
            return product, softmax, sinks
    return None
