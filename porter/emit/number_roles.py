"""What the numbers among an op's arguments are, by which they are named."""

from __future__ import annotations

from porter.ir import Node

#: What a number is among a function's arguments.
_ROLES = {
    ".transpose": "axis", "mx.expand_dims": "axis", ".squeeze": "axis", "mx.pad": "pad", "mx.roll": "shift",
    "mx.broadcast_to": "size", "mx.split": "size", "mx.tile": "size", "fn.resize_linear": "size", "fn.resize_cubic": "size",
    "fn.chunked_mask": "attention_chunk_size",
}  # fmt: skip


#: What a number that differs between the instances of a class is called, where it has no role.
OPERANDS = {
    "+": "offset", "-": "offset", "*": "factor", "/": "divisor", "//": "divisor", "**": "exponent", "mx.repeat": "repeats",
}  # fmt: skip


def number_role(node: Node, position: int) -> str:
    """What a number in an argument's place is, to name it."""
    if node.op == "mx.arange":
        return ("start", "length", "step")[position if len(node.args) > 1 else 1]
    if node.op in _ROLES:
        return _ROLES[node.op]
    return "scale" if node.op in ("*", "/") and isinstance(node.args[position], float) else ""
