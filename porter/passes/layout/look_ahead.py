"""What becomes of a value further on: whether to keep a transpose as a label."""

from __future__ import annotations

from porter.ir import Node, Value
from porter.ir.ops import ACTIVATIONS, ALONG_AXIS, ELEMENTWISE, REDUCTIONS
from porter.passes.layout.permutations import Permutation, identity, permuted_reshape, without
from porter.passes.layout.stored_orders import StoredOrders

#: How many values are looked at for a transpose that undoes another.
_FAR = 16


def comes_back(orders: StoredOrders, value: Value, order: Permutation) -> bool:
    """Whether a reader of the value, or of what is computed from it element by element, turns its axes back."""
    seen, queue = {value}, [(value, order)]
    while queue and len(seen) <= _FAR:
        current, order = queue.pop(0)
        for user in orders.users.get(current, []):
            if user.op == ".transpose" and tuple(user.args[1:]) == order:
                return True
            if user.op in REDUCTIONS and _is_all_in_order(user, order):
                return True
            after = _order_after(user, order)
            for output in user.outputs:
                if after is not None and output not in seen:
                    seen.add(output)
                    queue.append((output, after))
    return False


def _is_all_in_order(reduction: Node, order: Permutation) -> bool:
    """Whether what a reduction leaves stands in its logical order: it may as well reduce the axes where they are."""
    axis = reduction.kwargs.get("axis")
    if axis is None:
        return True
    axes = {a % len(order) for a in (axis if isinstance(axis, (tuple, list)) else [axis])}
    left = without(order, axes)
    return left == identity(len(left))


def _order_after(user: Node, order: Permutation) -> Permutation | None:
    """How the result of a node that minds no order is stored."""
    if user.op in (*ELEMENTWISE, *ACTIVATIONS, *ALONG_AXIS, "mx.pad"):
        return order if user.outputs[0].rank == len(order) else None
    if user.op == "unpack":
        return without(order, {0}) if order[0] == 0 else None
    if user.op == ".reshape":
        return permuted_reshape(user.args[0].shape, user.output.shape, order)
    if user.op == "[]" and all(isinstance(k, (int, slice)) for k in user.attrs["key"]):
        return without(order, {a for a, k in enumerate(user.attrs["key"]) if isinstance(k, int)})
    return None
