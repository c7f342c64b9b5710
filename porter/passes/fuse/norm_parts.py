"""What spelled-out norms are made of."""

from __future__ import annotations

from porter.ir import Node, Value
from porter.lowering.parameters import reshaped
from porter.passes.fuse.match import commuted, is_number, producer, through_casts

_VIEWS = ("[]", ".reshape", "mx.expand_dims")


def reduced_axes(reduction: Node) -> tuple[int, ...]:
    """The axes that are reduced and kept, counted from the front; none where they are lost."""
    axis = reduction.kwargs.get("axis")
    if axis is None or not reduction.kwargs.get("keepdims"):
        return ()
    rank = reduction.args[0].rank
    return tuple(sorted(a % rank for a in (axis if isinstance(axis, (list, tuple)) else (axis,))))


def reduced_axis(reduction: Node) -> int | None:
    """The one axis that is reduced and kept."""
    axes = reduced_axes(reduction)
    return axes[0] if len(axes) == 1 else None


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


def quotients(value: Value) -> list[tuple[Value, Node]]:
    """(x, the sum under the root) of x * rsqrt(sum), x / sqrt(sum), x * sum**-0.5 and so on."""
    found = []
    product = producer(value, "*")
    for x, inverse in commuted(product) if product is not None and len(product.args) == 2 else ():
        root = producer(inverse, "mx.rsqrt")
        power = producer(inverse, "**")
        quotient = producer(inverse, "/")
        if power is not None and is_number(power.args[1], -0.5):
            root = power
        elif quotient is not None and is_number(quotient.args[0], 1.0):
            root = _root(quotient.args[1])
        total = producer(root.args[0], "+") if root is not None else None
        if total is not None:
            found.append((x, total))
    quotient = producer(value, "/")
    root = _root(quotient.args[1]) if quotient is not None else None
    total = producer(root.args[0], "+") if root is not None else None
    if quotient is not None and total is not None:
        found.append((quotient.args[0], total))
    return found


def _root(value: object) -> Node | None:
    root = producer(value, "mx.sqrt", "**")
    return root if root is None or root.op == "mx.sqrt" or is_number(root.args[1], 0.5) else None
