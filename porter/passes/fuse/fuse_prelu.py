"""A slope that the checkpoint holds, and nothing but activations reads, is a layer."""

from __future__ import annotations

from porter.ir import Program, Value
from porter.ir.builder import Builder
from porter.passes.fuse.match import replace_node


def fuse_prelu(program: Program) -> int:
    """`nn.prelu(x, weight)` becomes nn.PReLU where the weight's slopes belong to the last axis. Returns how many.

    A function of a parameter keeps the nn.Sequential around it from being one.
    """
    users = program.users()
    count = 0
    for node in list(program.nodes):
        weight = node.args[1] if node.op == "nn.prelu" else None
        if not isinstance(weight, Value) or not _is_layer_weight(weight):
            continue
        if any(other.op != "nn.prelu" for other in users[weight]):
            continue
        build = Builder(node.scope, node.location)
        y = build.layer(
            "nn.PReLU", node.args[0], {"weight": weight}, node.output.shape, num_parameters=weight.shape[0]
        )  # fmt: skip
        replace_node(program, node, build.nodes, y)
        count += 1
    return count


def _is_layer_weight(weight: Value) -> bool:
    named = (weight.path or "").rpartition(".")[2] == "weight"
    return weight.is_parameter and named and weight.rank == 1
