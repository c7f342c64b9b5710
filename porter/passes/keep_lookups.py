"""Rows of a table that are looked up by flattened indices."""

from __future__ import annotations

from porter.ir import Program
from porter.ir.builder import Builder
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import producer, replace_node


def keep_lookups(program: Program) -> int:
    """`table.take(ids.reshape(-1), 0).reshape(*ids.shape, -1)` is `table[ids]`. Returns how many were rewritten."""
    count = 0
    for node in list(program.nodes):
        taken = producer(node.args[0], "mx.take") if node.op == ".reshape" else None
        if taken is None or taken.kwargs.get("axis") != 0:
            continue
        table, index = taken.args
        flat = producer(index, ".reshape")
        if flat is None or index.rank != 1:
            continue
        ids = flat.args[0]
        if node.output.shape != (*ids.shape, *table.shape[1:]):
            continue
        builder = Builder(node.scope, node.location)
        rows = builder.index(table, (ids,), node.output.shape)
        replace_node(program, node, builder.nodes, rows)
        count += 1
    if count:
        remove_dead(program)
    return count
