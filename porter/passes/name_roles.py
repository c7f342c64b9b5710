"""Names for arrays whose role is plain and whose author has none in reach."""

from __future__ import annotations

from porter.ir import Program, Value
from porter.passes.fuse.fuse_attention import ATTENTION


def name_roles(program: Program) -> int:
    """Attention's operands are q, k and v where the source calls them nothing. Returns how many got a name."""
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
    return count
