"""The rule for each op: which order of the axes it takes its operands in, and which its result has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from porter.ir import Node, Value, values_in
from porter.ir.builder import Builder
from porter.ir.ops import ACTIVATIONS, ALONG_AXIS, ELEMENTWISE, LAST_AXIS_LAYERS, REDUCTIONS
from porter.lowering.parameters import reshaped
from porter.passes.layout.look_ahead import comes_back
from porter.passes.layout.permutations import Permutation, identity, inserted, without
from porter.passes.layout.place_views import (
    place_after_transpose,
    place_broadcast,
    place_expand_dims,
    place_index,
    place_reshape,
    place_squeeze,
    place_transpose,
)
from porter.passes.layout.stored_orders import StoredOrders, without_leading_ones


def place(orders: StoredOrders, node: Node) -> None:
    """Adds the node to the rewritten program, with its operands in the orders that cost least."""
    arrays = [value for value in node.inputs() if not value.is_parameter]
    if node.op == ".transpose" and not node.args[0].is_parameter:
        place_transpose(orders, node)
    elif node.op != ".transpose" and any(
        orders.order(value) != identity(orders.rank(value)) for value in arrays
    ):
        PLACEMENTS.get(node.op, StoredOrders.place_plain)(orders, node)
    elif node.op == ".reshape":
        place_after_transpose(orders, node)
    elif node.op == "mx.expand_dims" and _is_channel(orders, node):
        place_expand_dims(orders, node, last=True)
    else:
        orders.place_plain(node)


def _is_channel(orders: StoredOrders, node: Node) -> bool:
    """Whether the readers of a map that gets an axis want it last: a mean of channels that a convolution reads."""
    rank, axis = node.output.rank, node.args[1]
    order = (0, *range(2, rank), 1)
    return rank > 2 and axis in (1, 1 - rank) and comes_back(orders, node.output, order)


def place_elementwise(orders: StoredOrders, node: Node) -> None:
    rank = node.output.rank
    order = next(
        (
            orders.order(v)
            for v in sorted(values_in(node.args), key=lambda v: 1 in orders.shape(v))
            if not v.is_parameter and orders.rank(v) == rank and orders.order(v) != identity(rank)
        ),
        identity(rank),
    )

    def operand(value: Value) -> Value:
        missing = rank - orders.rank(value)
        if missing == 0:
            if order != orders.order(value) and not value.is_parameter:
                made = orders.of_parameters(value, order, node)
                if made is not None:
                    return made
            held = orders.demand(value, order, node)
            return without_leading_ones(held) if value.is_parameter else held
        tail = tuple(axis - missing for axis in order[missing:])
        sizes, last = orders.shape(value), tail[-1] if tail else -1  # -1 for a number
        if last >= 0 and sizes.count(1) == len(sizes) - 1 and sizes[last] != 1 and len(sizes) > 1:
            return _vector(orders, value, node)  # of a number for each channel, say
        if sorted(tail) == list(range(orders.rank(value))):
            return orders.demand(value, tail, node)
        held = orders.demand(value, identity(orders.rank(value)), node)
        builder = Builder(node.scope, node.location)
        shape = [1] * missing + list(orders.shape(value))
        if value.is_parameter:
            return without_leading_ones(
                orders.permuted_parameter(reshaped(held, tuple(shape)), order)
            )
        wide = (
            builder.reshape(held, [shape[axis] for axis in order])
            if shape.count(1) >= rank - 1
            else None
        )
        if wide is None:
            wide = builder.transpose(builder.reshape(held, shape), order)
        orders.nodes += builder.nodes
        return wide

    node.args = [operand(a) if isinstance(a, Value) else a for a in node.args]
    orders.emit(node, order)


def _vector(orders: StoredOrders, value: Value, node: Node) -> Value:
    """A value with one axis that is not 1, as that axis alone."""
    held = orders.stored[value][0] if value in orders.stored else value
    if value.is_parameter:
        return reshaped(held, tuple(size for size in held.shape if size != 1))
    builder = Builder(node.scope, node.location)
    result = builder.reshape(held, [size for size in held.shape if size != 1])
    orders.nodes += builder.nodes
    return result


def place_reduction(orders: StoredOrders, node: Node) -> None:
    value = node.args[0]
    order = orders.order(value)
    axis = node.kwargs.get("axis")
    if axis is None:
        node.args[0] = orders.stored[value][0]
        return orders.emit(node)
    axes = {a % len(order) for a in (axis if isinstance(axis, (tuple, list)) else [axis])}
    places = tuple(sorted(order.index(a) for a in axes))
    node.args[0] = orders.stored[value][0]
    node.kwargs["axis"] = places if isinstance(axis, (tuple, list)) else places[0]
    orders.emit(node, order if node.kwargs.get("keepdims") else without(order, axes))
    return None


def place_along_axis(orders: StoredOrders, node: Node) -> None:
    arrays = list(values_in(node.args))
    rank = orders.rank(arrays[0])
    order = next(
        (o for v in arrays if not v.is_parameter and (o := orders.order(v)) != identity(rank)),
        identity(rank),
    )
    if "axis" not in node.kwargs:
        return orders.place_plain(node)
    node.args = [_demanded(orders, item, order, node) for item in node.args]
    node.kwargs["axis"] = order.index(node.kwargs["axis"] % rank)
    orders.emit(node, order)
    return None


def _demanded(orders: StoredOrders, item: Any, order: Permutation, node: Node) -> Any:
    if isinstance(item, Value):
        return orders.demand(item, order, node)
    return (
        [_demanded(orders, entry, order, node) for entry in item]
        if isinstance(item, list)
        else item
    )


def place_product(orders: StoredOrders, node: Node) -> None:
    """Of operands whose last two axes are stored swapped, the product the other way round is the swapped product."""
    x, y = node.args[:2]
    rank = node.output.rank
    if not rank == orders.rank(x) == orders.rank(y):
        return orders.place_plain(node)
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    held = [v for v in (x, y) if not v.is_parameter]
    fits = [orders.order(v) == swapped for v in held]
    if all(fits) or (any(fits) and comes_back(orders, node.output, swapped)):
        node.args = [orders.demand(y, swapped, node), orders.demand(x, swapped, node)]
        orders.emit(node, swapped)
        return None
    return orders.place_plain(node)


def place_last_axis(orders: StoredOrders, node: Node) -> None:
    value = node.args[0]
    order = orders.order(value)
    if order[-1] != len(order) - 1:
        return orders.place_plain(node)
    node.args[0] = orders.stored[value][0]
    orders.emit(node, order)
    return None


def place_stack(orders: StoredOrders, node: Node) -> None:
    arrays = node.args[0]
    rank = orders.rank(arrays[0])
    axis = node.kwargs["axis"] % (rank + 1)
    known = [orders.order(v) for v in arrays if not v.is_parameter]
    order = next((o for o in known if o != identity(rank)), identity(rank))
    node.args[0] = [orders.demand(v, order, node) for v in arrays]
    wide = inserted(order, axis)
    node.kwargs["axis"] = wide.index(axis)
    orders.emit(node, wide)


def place_unpack(orders: StoredOrders, node: Node) -> None:
    """Rows are stored as their array is, where its first axis is stored first."""
    value = node.args[0]
    order = orders.order(value)
    if order[0] != 0:
        return orders.place_plain(node)
    node.args[0] = orders.stored[value][0]
    orders.emit(node, without(order, {0}))
    return None


def place_pad(orders: StoredOrders, node: Node) -> None:
    order = orders.order(node.args[0])
    node.args[0] = orders.stored[node.args[0]][0]
    node.args[1] = [node.args[1][axis] for axis in order]
    orders.emit(node, order)


def place_roll(orders: StoredOrders, node: Node) -> None:
    value, axis = node.args[0], node.kwargs.get("axis")
    if axis is None:
        return orders.place_plain(node)
    order = orders.order(value)
    single = isinstance(axis, int)
    places = [order.index(a % len(order)) for a in ([axis] if single else axis)]
    node.args[0] = orders.stored[value][0]
    node.kwargs["axis"] = places[0] if single else tuple(places)
    orders.emit(node, order)
    return None


#: What is not here needs its operands in their logical order.
PLACEMENTS: dict[str, Callable[[StoredOrders, Node], None]] = {
    **dict.fromkeys((*ELEMENTWISE, *ACTIVATIONS, "nn.prelu"), place_elementwise),
    **dict.fromkeys(REDUCTIONS, place_reduction),
    **dict.fromkeys(ALONG_AXIS, place_along_axis),
    **dict.fromkeys(LAST_AXIS_LAYERS, place_last_axis),
    ".reshape": place_reshape,
    "@": place_product,
    "mx.stack": place_stack,
    "unpack": place_unpack,
    "mx.pad": place_pad,
    "mx.roll": place_roll,
    "mx.expand_dims": place_expand_dims,
    ".squeeze": place_squeeze,
    "mx.broadcast_to": place_broadcast,
    "[]": place_index,
}
