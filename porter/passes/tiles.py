"""Arrays that are tiled as a whole, for a product of each copy with a matrix of its own."""

from __future__ import annotations

from porter.ir import Program
from porter.ir.builder import Builder
from porter.passes.fuse.match import replace_node


def broadcast_tiles(program: Program) -> int:
    """`mx.tile(x, (n, 1))` repeats nothing: it is x with an axis before it, seen n times, and merged. Returns how many.

    The rows of a mixture that runs every expert on every token are written so; the merging reshape then goes.
    """
    count = 0
    for node in list(program.nodes):
        if node.op != "mx.tile" or node.output.rank != 2 or node.args[0].rank != 2:
            continue
        times, *rest = node.args[1]
        source = node.args[0]
        if not isinstance(times, int) or times < 2 or list(rest) != [1]:
            continue
        builder = Builder(node.scope, node.location)
        lead = builder.op("mx.expand_dims", source, 0, shape=(1, *source.shape), dtype=source.dtype)
        wide = (times, *source.shape)
        lead = builder.op("mx.broadcast_to", lead, wide, shape=wide, dtype=source.dtype)
        flat = builder.op(".reshape", lead, *node.output.shape, shape=node.output.shape, dtype=source.dtype)  # fmt: skip
        replace_node(program, node, builder.nodes, flat)
        count += 1
    return count
