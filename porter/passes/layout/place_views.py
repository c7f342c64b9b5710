"""Where views go when their operand is stored in another order: transposes become labels, the others follow the axes."""

from __future__ import annotations

from porter.ir import Node, Value
from porter.ir.builder import Builder
from porter.ir.ops import REDUCTIONS
from porter.lowering.parameters import permuted, reshaped
from porter.passes.layout.look_ahead import comes_back
from porter.passes.layout.permutations import (
    axes_between,
    identity,
    inserted,
    permuted_reshape,
    relabel,
    without,
)
from porter.passes.layout.stored_orders import StoredOrders

#: Reductions that give the same in whatever order the elements stand.
_UNORDERED = REDUCTIONS - {"mx.argmax", "mx.argmin"}


def place_transpose(orders: StoredOrders, node: Node) -> None:
    source, axes = node.args[0], tuple(node.args[1:])
    holder, current = orders.stored[source]
    order = relabel(current, axes)
    straight = current == identity(len(current)) and order != identity(len(order))
    if node.layout or not straight or comes_back(orders, node.output, order):
        orders.stored[node.output] = (holder, order)
        orders.logical[node.output] = tuple(orders.shape(source)[axis] for axis in axes)
        orders.producers[node.output] = Node(node.op, list(node.args))
        if holder.name is None:
            holder.name = node.output.name
        if holder.origin is None and node.output.origin is not None:
            holder.origin = node.output.origin
            holder.permute = None if order == identity(len(order)) else order
        return
    orders.turned.add(node.output)
    if straight and axes[-1] != len(axes) - 1:
        # windows put together again, and channels first: these may stay last
        channels = axes.index(len(axes) - 1)
        order = (*(axis for axis in range(len(axes)) if axis != channels), channels)
        if comes_back(orders, node.output, order):
            original = list(node.args)
            node.args = [holder, *(axes[axis] for axis in order)]
            orders.emit(node, order)
            orders.producers[node.output] = Node(node.op, original)
            return
    orders.place_plain(node)


def place_reshape(orders: StoredOrders, node: Node) -> None:
    value = node.args[0]
    order = permuted_reshape(orders.shape(value), node.output.shape, orders.order(value))
    if order is None and (free := _reduced_axes(orders, node.output)):
        order = permuted_reshape(orders.shape(value), node.output.shape, orders.order(value), free)
        if order is not None:
            node.output.origin = None  # its elements stand in another order than the source's
    if order is None:
        done = _flatten_into_linear(orders, node) or _reshape_for_readers(orders, node)
        return None if done else orders.place_plain(node)
    held = orders.stored[value][0]
    target = [node.output.shape[axis] for axis in order]
    if tuple(target) == held.shape:  # only axes of size 1 moved
        orders.stored[node.output] = (held, order)
        orders.logical[node.output] = node.output.shape
        orders.producers[node.output] = Node(node.op, list(node.args))
        return None
    last = (0, *range(2, node.output.rank), 1)
    if order == (*range(2, node.output.rank), 0, 1) and node.output.rank > 3:
        builder = Builder(node.scope, node.location)  # samples that were groups of one convolution
        groups = builder.reshape(held, target)
        orders.nodes += builder.nodes
        source = list(node.args)
        node.op, node.args = ".transpose", [groups, *axes_between(order, last)]
        orders.emit(node, last)
        orders.producers[node.output] = Node(".reshape", source)
        return None
    source = list(node.args)
    node.args = [held, *target]
    orders.emit(node, order)
    orders.producers[node.output] = Node(node.op, source)
    return None


def _reduced_axes(orders: StoredOrders, value: Value) -> set[int]:
    """The axes that all that read a value reduce, in which order they may."""
    users = orders.users.get(value, [])
    if not users or value in orders.program.output_values():
        return set()
    reduced = [_axes_of(user, value.rank) if user.op in _UNORDERED else set() for user in users]
    return set.intersection(*reduced)


def _axes_of(reduction: Node, rank: int) -> set[int]:
    axis = reduction.kwargs.get("axis")
    axes = range(rank) if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
    return {a % rank for a in axes}


def _flatten_into_linear(orders: StoredOrders, node: Node) -> bool:
    """Flattens a feature map as it is stored; the Linear that reads it has its weight's columns in that order."""
    value, out = node.args[0], node.output
    order, sizes = orders.order(value), orders.shape(value)[1:]
    users = orders.users.get(out, [])
    flat = orders.rank(value) > 2 and out.rank == 2 and order[0] == 0
    if not flat or not users or out in orders.program.output_values():
        return False
    if not all(isinstance(size, int) for size in sizes):
        return False
    weights = [user.params.get("weight") if user.op == "nn.Linear" else None for user in users]
    for weight in weights:
        if weight is None or sum(weight in n.inputs() for n in orders.program.nodes) != 1:
            return False
    for user, weight in zip(users, weights, strict=True):
        assert weight is not None
        columns = permuted(reshaped(weight, (weight.shape[0], *sizes)), order)
        user.params["weight"] = reshaped(columns, weight.shape)
    node.args = [orders.stored[value][0], *out.shape]
    out.origin = None  # its elements stand in another order than the source's
    orders.emit(node)
    return True


def place_after_transpose(orders: StoredOrders, node: Node) -> None:
    """A reshape that the author's transpose makes no difference to (beside sizes of 1) reads what was before it."""
    source = node.args[0]
    producer = orders.producers.get(source)
    if (
        producer is not None
        and producer.op == ".transpose"
        and orders.rank(source) > node.output.rank
    ):
        before = producer.args[0]
        axes = tuple(producer.args[1:])
        order = relabel(orders.order(before), axes)
        back = axes == (
            0,
            len(axes) - 1,
            *range(1, len(axes) - 1),
        )  # channels-last to channels-first
        if back and permuted_reshape(orders.shape(source), node.output.shape, order) == identity(
            node.output.rank
        ):
            original = list(node.args)
            node.args[0] = orders.stored[before][0]  # read as it is stored
            orders.emit(node)
            orders.producers[node.output] = Node(node.op, original)
            return
    if not _reshape_for_readers(orders, node):
        orders.place_plain(node)


def _reshape_for_readers(orders: StoredOrders, node: Node) -> bool:
    """A map whose readers want channels last is turned before it is put together, of heads or of pixels."""
    source, out = node.args[0], node.output
    if source.is_parameter or out.rank < 4:
        return False
    order = (0, *range(2, out.rank), 1)
    back = permuted_reshape(out.shape, orders.shape(source), order)
    if back is None or permuted_reshape(orders.shape(source), out.shape, back) != order:
        return False
    if not comes_back(orders, out, order):
        return False
    original = list(node.args)
    node.args = [orders.demand(source, back, node), *(out.shape[axis] for axis in order)]
    orders.emit(node, order)
    orders.producers[out] = Node(node.op, original)
    return True


def place_expand_dims(orders: StoredOrders, node: Node, last: bool = False) -> None:
    """The new axis stands before the one that follows it logically, or `last`."""
    value, axis = node.args[0], node.args[1]
    if not isinstance(axis, int):
        return orders.place_plain(node)
    order = inserted(orders.order(value), axis % (orders.rank(value) + 1))
    if last:
        order = (*(a for a in order if a != axis % len(order)), axis % len(order))
    node.args = [orders.stored[value][0], order.index(axis % len(order))]
    orders.emit(node, order)
    orders.producers[node.output] = Node(node.op, [value, axis])
    return None


def place_squeeze(orders: StoredOrders, node: Node) -> None:
    value, axis = node.args[0], node.args[1]
    order = orders.order(value)
    single = isinstance(axis, int)
    axes = [a % len(order) for a in ([axis] if single else axis)]
    places = sorted(order.index(a) for a in axes)
    node.args = [orders.stored[value][0], places[0] if single else tuple(places)]
    orders.emit(node, without(order, set(axes)))


def place_broadcast(orders: StoredOrders, node: Node) -> None:
    value, shape = node.args[0], node.args[1]
    if len(shape) != orders.rank(value):
        return orders.place_plain(node)
    order = orders.order(value)
    node.args = [orders.stored[value][0], tuple(shape[axis] for axis in order)]
    orders.emit(node, order)
    return None


def place_index(orders: StoredOrders, node: Node) -> None:
    """Slices and single ints follow the axes; index arrays and new axes need the logical order."""
    value, key = node.args[0], node.attrs["key"]
    rank = orders.rank(value)
    if any(isinstance(k, Value) or k is None or k is Ellipsis for k in key):
        return orders.place_plain(node)
    full = [*key, *[slice(None)] * (rank - len(key))]
    order = orders.order(value)
    moved = [full[axis] for axis in order]
    while len(moved) > 1 and moved[-1] == slice(None):
        moved.pop()
    node.args = [orders.stored[value][0]]
    node.attrs = {"key": tuple(moved)}
    orders.emit(node, without(order, {axis for axis, k in enumerate(full) if isinstance(k, int)}))
    return None
