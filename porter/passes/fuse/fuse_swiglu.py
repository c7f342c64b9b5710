"""The gate of a decoder's MLP, by mlx-lm's compiled function."""

from __future__ import annotations

from porter.ir import Program, Value
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import commuted, producer


def fuse_swiglu(program: Program) -> int:
    """silu(gate) * x becomes swiglu(gate, x) in a file that imports mlx-lm anyway; Shazeer 2020, "GLU variants".

    Returns how many.
    """
    if not program.sights:
        return 0
    users = program.users()
    count = 0
    for node in program.nodes:
        if node.op != "*":
            continue
        for gated, x in commuted(node):
            silu = producer(gated, "nn.silu")
            if (
                silu is None
                or not isinstance(x, Value)
                or x.shape != gated.shape
                or len(users[gated]) > 1
            ):
                continue
            node.op, node.args = "swiglu", [silu.args[0], x]
            count += 1
            break
    if count:
        remove_dead(program)
    return count
