"""What spelled-out norms are made of."""

from __future__ import annotations

from porter.ir import Node, Value
from porter.lowering.parameters import reshaped
from porter.passes.fuse.match import is_number, producer, through_casts

_VIEWS = ("[]", ".reshape", "mx.expand_dims")


def reduced_axis(reduction: Node) -> int | None:
    """The one axis that is reduced and kept, counted from the front."""
    axis = reduction.kwargs.get("axis")
    axis = axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis
    if not isinstance(axis, int) or not reduction.kwargs.get("keepdims"):
        return None
    return axis % reduction.args[0].rank


def is_square(value: Value, x: Value) -> bool:
    node: Node | None = producer(value, "**", "mx.square", "*")
    if node is None or through_casts(node.args[0]) is not x:
        return False
    if node.op == "mx.square":
        return True
    return is_number(node.args[1], 2) if node.op == "**" else through_casts(node.args[1]) is x


def channel_parameter(value: object, x: Value, axis: int) -> Value | None:
    """A parameter with one number for each place of the axis, through views and in whatever shape it is kept."""
    if not isinstance(value, Value):
        return None
    size, after = x.shape[axis], x.rank - 1 - axis
    padded = (1,) * (x.rank - value.rank) + value.shape
    if padded != (*(1,) * axis, size, *(1,) * after) or len(padded) != x.rank:
        return None
    while (view := producer(value, *_VIEWS)) is not None:
        value = view.args[0]
        if not isinstance(value, Value):
            return None
    if not value.is_parameter or [s for s in value.shape if s != 1] != [size]:
        return None
    return value if value.rank == 1 else reshaped(value, (size,))
