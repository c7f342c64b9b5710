"""Attention rows that a mask leaves nothing to attend to."""

from __future__ import annotations

from porter.ir import Program, Value
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import producer


def drop_row_guards(program: Program) -> int:
    """Torch's attention gives 0 in a row that is masked whole, MLX's an average, so the lowering guards each call.

    Under a mask that is the same for every query (padding) such a row means a sample without a single token, which no
    caller asks about: there the guard goes. Masks that differ by query keep it. Returns how many went.
    """
    mapping: dict[Value, Value] = {}
    for node in program.nodes:
        if node.op != "mx.where" or len(node.args) != 3 or node.args[2] != 0:
            continue
        attention = producer(node.args[1], "mx.fast.scaled_dot_product_attention")
        seen = producer(node.args[0], "mx.any")
        if attention is None or seen is None or seen.args[0] is not attention.kwargs.get("mask"):
            continue
        mask = seen.args[0]
        while (wider := producer(mask, "mx.broadcast_to")) is not None:
            mask = wider.args[0]
        if not isinstance(mask, Value):
            continue
        if mask.rank < 2 or mask.shape[-2] == 1:
            attention.output.origin, attention.output.name = node.output.origin, node.output.name
            mapping[node.output] = attention.output
    program.replace(mapping)
    if mapping:
        remove_dead(program)
    return len(mapping)
