"""Channels-last from end to end.

Lowerings put a transpose before and after each conv, pool and norm. Here a transpose becomes a label: each value is
stored in some order of its axes (`stored_orders`), and every op is told what its axes are called in that order
(`place_nodes`, `place_views`). A real transpose is left only where an op needs an order that its operand isn't stored in.
"""

from __future__ import annotations

from porter.ir import Node, Program, Value
from porter.ir.ops import ELEMENTWISE
from porter.passes.layout.look_ahead import comes_back
from porter.passes.layout.place_nodes import place
from porter.passes.layout.stored_orders import StoredOrders


def propagate_layout(program: Program, input_layout: str = "nhwc") -> int:
    """Rewrites the program so that layouts flow instead of transposes. Returns how many transposes are left.

    With `input_layout` "nchw" the inputs stay as torch has them, at the cost of a transpose.
    """
    orders = StoredOrders(program)
    if input_layout == "nhwc":
        _choose_inputs(orders)
    for node in program.nodes:
        place(orders, node)
    program.outputs = [(name, orders.output(value)) for name, value in program.outputs]
    program.nodes = orders.nodes
    program.replace(
        {value: held for value, (held, _) in orders.stored.items() if value is not held}
    )
    return sum(node.op == ".transpose" for node in program.nodes)


def _choose_inputs(orders: StoredOrders) -> None:
    """An input that a channels-last layer reads first is taken channels-last, also as frames of a batch of videos."""
    for value in orders.program.inputs:
        seen: set[Value] = set()
        queue = [(value, _alone(value.rank))]  # with the axes of the input that each axis holds
        while queue:
            current, axes = queue.pop()
            for user in orders.users.get(current, []):
                turns = user.layout and user.args[0].rank == len(axes)
                if turns and not comes_back(orders, user.output, tuple(user.args[1:])):
                    orders.keep(value, tuple(a for axis in user.args[1:] for a in axes[axis]))
                    queue.clear()
                    break
                if user.output in seen:
                    continue
                after = _axes_after(user, current, axes)
                if after is not None:
                    seen.add(user.output)
                    queue.append((user.output, after))


Axes = tuple[tuple[int, ...], ...]


def _alone(rank: int) -> Axes:
    return tuple((axis,) for axis in range(rank))


def _axes_after(user: Node, current: Value, axes: Axes) -> Axes | None:
    """Which axes of the input each axis of a reader's output holds; None where the reader does not only move pixels."""
    out = user.output
    if user.op == ".transpose":
        return tuple(axes[a] for a in user.args[1:]) if current.rank == len(axes) else axes
    if user.op == "mx.expand_dims" and isinstance(user.args[1], int):  # an image alone
        place = user.args[1] % out.rank
        return (*axes[:place], (), *axes[place:])
    if user.op == ".reshape":  # frames become samples; or patches and pixels of blocks
        joins = current.rank == len(axes) > 4 and out.shape[1:] == current.shape[2:]
        return (axes[0] + axes[1], *axes[2:]) if joins else axes
    if user.op == "[]" and all(isinstance(k, (int, slice)) for k in user.attrs["key"]):
        kept: list[tuple[int, ...]] = []
        gone: tuple[int, ...] = ()  # a frame of a video: its axis stays beside the one before it
        for axis, own in enumerate(axes):
            picked = axis < len(user.attrs["key"]) and isinstance(user.attrs["key"][axis], int)
            if picked and kept:
                kept[-1] += own
            elif picked:
                gone += own
            else:
                kept.append(gone + own)
                gone = ()
        return tuple(kept) if current.rank == len(axes) else axes
    flows = user.op in ELEMENTWISE or user.op in ("mx.pad", "mx.roll", "mx.concatenate")
    return axes if flows and out.rank == len(axes) else None
