"""Keys and values repeated for every query head of their group (Ainslie et al. 2023, GQA)."""

from __future__ import annotations

from porter.ir import Program, Value
from porter.ir.builder import Builder
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.fuse_attention import ATTENTION
from porter.passes.fuse.match import producer


def share_heads(program: Program) -> int:
    """MLX's attention takes fewer key and value heads than query heads: a repetition before it goes. Returns how many."""
    count = 0
    for node in list(program.nodes):
        if node.op not in ATTENTION:
            continue
        builder = Builder(node.scope, node.location)
        keys, values = (_narrow(value, builder) for value in node.args[1:3])
        if keys is None or values is None or keys.shape[1] != values.shape[1]:
            continue
        node.args[1:3] = [keys, values]
        place = program.nodes.index(node)
        program.nodes[place:place] = builder.nodes
        count += 2
    if count:
        remove_dead(program)
    return count


def _narrow(value: Value, builder: Builder) -> Value | None:
    """Keys or values with each head once; where tokens still stand before heads, these are repeated there."""
    turned = producer(value, ".transpose")
    if turned is None or value.rank != 4:
        return _unrepeated(value) or _once(value, 1)
    heads = _once(turned.args[0], turned.args[2])
    return builder.transpose(heads, turned.args[1:]) if heads is not None else _unrepeated(value)


def _once(value: Value, axis: int) -> Value | None:
    """x where the value is x with each head repeated along that axis."""
    node = producer(value, "mx.repeat")
    if node is None or value.rank != 4 or node.kwargs.get("axis") != axis:
        return None
    heads: Value = node.args[0]
    return heads if isinstance(node.args[1], int) else None


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
