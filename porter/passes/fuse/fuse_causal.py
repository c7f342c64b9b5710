"""Causal masks that are built position by position."""

from __future__ import annotations

from porter.ir import Program, Value
from porter.passes.cleanup import remove_dead
from porter.passes.masks import Sight, sight_of
from porter.passes.positions import position_values


def fuse_causal(program: Program) -> int:
    """A mask that hides the keys after each query, and those alone, is MLX's "causal". Returns how many were found."""
    positions = position_values(program)
    known: dict[Value, bool] = {}
    count = 0
    for node in program.nodes:
        mask = node.kwargs.get("mask")
        if node.op != "mx.fast.scaled_dot_product_attention" or mask not in positions:
            continue
        if known.setdefault(mask, sight_of(program, mask) == Sight()):
            node.kwargs["mask"] = "causal"
            count += 1
    if count:
        remove_dead(program)
    return count
