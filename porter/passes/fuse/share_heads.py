"""Keys and values repeated for every query head of their group (Ainslie et al. 2023, GQA)."""

from __future__ import annotations

from porter.ir import Program, Value
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.fuse_attention import ATTENTION
from porter.passes.fuse.match import producer


def share_heads(program: Program) -> int:
    """MLX's attention takes fewer key and value heads than query heads: a repetition before it goes. Returns how many."""
    count = 0
    for node in program.nodes:
        if node.op not in ATTENTION:
            continue
        keys, values = (_unrepeated(value) for value in node.args[1:3])
        if keys is None or values is None or keys.shape[1] != values.shape[1]:
            continue
        node.args[1:3] = [keys, values]
        count += 2
    if count:
        remove_dead(program)
    return count


def _unrepeated(value: Value) -> Value | None:
    """x of shape (B, H, L, D) where the value is x[:, :, None] broadcast to (B, H, n, L, D) and merged to (B, H n, L, D)."""
    merged = producer(value, ".reshape")
    wide = producer(merged.args[0], "mx.broadcast_to") if merged is not None else None
    if merged is None or wide is None or wide.output.rank != 5 or value.rank != 4:
        return None
    narrow = wide.args[0]
    added = producer(narrow, "mx.expand_dims", "[]", ".reshape")
    if added is None or narrow.rank != 5 or narrow.shape[2] != 1 or added.args[0].rank != 4:
        return None
    heads = added.args[0]
    same = heads.shape == (narrow.shape[0], narrow.shape[1], *narrow.shape[3:])
    return heads if same and wide.output.shape[:2] == heads.shape[:2] else None
