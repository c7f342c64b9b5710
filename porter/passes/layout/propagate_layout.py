"""Channels-last from end to end.

Lowerings put a transpose before and after each conv, pool and norm. Here a transpose becomes a label: each value is
stored in some order of its axes (`stored_orders`), and every op is told what its axes are called in that order
(`place_nodes`, `place_views`). A real transpose is left only where an op needs an order that its operand isn't stored in.
"""

from __future__ import annotations

from porter.ir import Program, Value
from porter.ir.ops import ELEMENTWISE
from porter.passes.layout.permutations import identity
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
    """An input that a channels-last layer reads first is taken channels-last."""
    for value in orders.program.inputs:
        seen: set[Value] = set()
        # with the input's axes in the order of its own, and None for an axis put in: an image alone
        start: tuple[int | None, ...] = identity(value.rank)
        queue = [(value, start)]
        while queue:
            current, axes = queue.pop()
            for user in orders.users.get(current, []):
                if user.layout and user.args[0].rank == len(axes):
                    turned = (axes[axis] for axis in user.args[1:])
                    orders.keep(value, tuple(axis for axis in turned if axis is not None))
                    queue.clear()
                    break
                flows = user.op in ELEMENTWISE or user.op in ("mx.pad", "mx.roll")
                views = user.op in (".reshape", ".transpose")  # patches and pixels of blocks
                wider = user.op == "mx.expand_dims" and isinstance(user.args[1], int)
                if (
                    (flows and user.output.rank == len(axes)) or views or wider
                ) and user.output not in seen:
                    seen.add(user.output)
                    order = axes
                    if wider:
                        place = user.args[1] % user.output.rank
                        order = (*axes[:place], None, *axes[place:])
                    elif user.op == ".transpose" and current.rank == len(axes):
                        order = tuple(axes[axis] for axis in user.args[1:])
                    queue.append((user.output, order))
