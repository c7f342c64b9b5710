"""Reshapes of reshapes, and expands that MLX's broadcasting makes needless."""

from __future__ import annotations

from porter.ir import Program, Value
from porter.ir.builder import broadcast_shapes
from porter.ir.ops import ELEMENTWISE


def merge_reshapes(program: Program) -> int:
    """A reshape reads what the reshape before it read. Returns how many were shortened."""
    count = 0
    mapping: dict[Value, Value] = {}
    for node in program.nodes:
        node.replace_inputs(lambda value: mapping.get(value, value))
        if node.op != ".reshape":
            continue
        source = node.args[0].node
        while source is not None and source.op == ".reshape":
            node.args[0] = source.args[0]
            source = node.args[0].node
            count += 1
        if node.args[0].shape == node.output.shape:
            mapping[node.output] = node.args[0]
    program.nodes = [node for node in program.nodes if node.outputs[0] not in mapping]
    program.replace(mapping)
    return count


def drop_broadcasts(program: Program) -> int:
    """An expand goes where every reader broadcasts by itself to the same shape. Returns how many went."""
    count = 0
    for node in list(program.nodes):
        if node.op != "mx.broadcast_to" or node.output in program.output_values():
            continue
        narrow, wide = node.args[0], node.output
        users = program.users().get(wide, [])
        if not users:
            continue
        fits = True
        for user in users:
            if user.op == "mx.fast.scaled_dot_product_attention":
                fits &= user.kwargs.get("mask") is wide and wide not in user.args and narrow.rank == wide.rank
            elif user.op in ELEMENTWISE:
                others = [narrow if value is wide else value for value in user.inputs()]
                fits &= broadcast_shapes(*(value.shape for value in others)) == user.output.shape
            else:
                fits = False
        if fits:
            for user in users:
                user.replace_inputs(lambda value, w=wide, n=narrow: n if value is w else value)
            program.nodes.remove(node)
            count += 1
    return count
