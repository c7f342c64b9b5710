"""Names for arrays whose role is plain and whose author has none in reach."""

from __future__ import annotations

from porter.ir import Program, Value
from porter.passes.fuse.fuse_attention import ATTENTION


def name_roles(program: Program) -> int:
    """Attention's operands are q, k and v, and what it adds a bias, where the source calls them nothing.

    Returns how many got a name.
    """
    count = 0
    for node in program.nodes:
        if node.op == "update_and_fetch":
            for value, name in zip(node.args, ("k", "v"), strict=False):
                value.name = name
                count += 1
        if node.op not in ATTENTION:
            continue
        for value, name in zip(node.args, ("q", "k", "v"), strict=False):
            if isinstance(value, Value) and value.name is None and not value.is_parameter:
                value.name = name
                count += 1
        mask = node.kwargs.get("mask")
        count += _name_mask(mask) if isinstance(mask, Value) else 0
    return count


def _name_mask(mask: Value) -> int:
    """Names an additive mask and the sums that it is made of."""
    if mask.name is not None or mask.is_parameter or mask.node is None or mask.dtype == "bool":
        return 0
    mask.name = "bias"
    inner = [a for a in mask.node.args if isinstance(a, Value)] if mask.node.op == "+" else []
    return 1 + sum(map(_name_mask, inner))
