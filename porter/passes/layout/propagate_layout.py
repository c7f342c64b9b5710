"""Channels-last from end to end.

Lowerings put a transpose before and after each conv, pool and norm. Here a transpose becomes a label: each value is
stored in some order of its axes, and every op is told what its axes are called in that order. A real transpose is left
only where an op needs an order that its operand isn't stored in.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Any

from porter.ir import Node, Program, Value, values_in
from porter.ir.builder import Builder
from porter.ir.ops import ACTIVATIONS, ALONG_AXIS, ELEMENTWISE, LAST_AXIS_LAYERS, REDUCTIONS
from porter.lowering.parameters import permuted, reshaped
from porter.passes.layout.permutations import (
    Permutation,
    axes_between,
    identity,
    inserted,
    permuted_reshape,
    relabel,
    without,
)

#: What `_Planner._pull` goes back through.
_PULLED = (".transpose", ".reshape", "mx.expand_dims")


def propagate_layout(program: Program, input_layout: str = "nhwc") -> int:
    """Rewrites the program so that layouts flow instead of transposes. Returns how many transposes are left.

    With `input_layout` "nchw" the inputs stay as torch has them, at the cost of a transpose.
    """
    planner = _Planner(program)
    if input_layout == "nhwc":
        planner.choose_inputs()
    for node in program.nodes:
        planner.place(node)
    program.outputs = [(name, planner.output(value)) for name, value in program.outputs]
    program.nodes = planner.nodes
    program.replace(
        {value: held for value, (held, _) in planner.stored.items() if value is not held}
    )
    return sum(node.op == ".transpose" for node in program.nodes)


#: How many values are looked at for a transpose that undoes another.
_FAR = 16


class _Planner:
    """`stored[v]` is (the value that holds it, the order of v's axes there)."""

    def __init__(self, program: Program):
        self.program = program
        self.nodes: list[Node] = []
        self.stored: dict[Value, tuple[Value, Permutation]] = {}
        self.logical: dict[Value, tuple[Any, ...]] = {}
        self.producers: dict[Value, Node] = {}
        self.converted: dict[tuple[Value, Permutation], list[Value]] = {}
        self.turned: set[Value] = set()  # what a transpose of the author's made that is still there
        self.handed_out: set[Value] = set()
        for value in program.inputs:
            self._keep(value)
        self.users = program.users()

    # --- stored orders

    def _keep(self, value: Value, order: Permutation | None = None) -> None:
        """The value is its own storage, in `order` of its logical axes."""
        order = order or identity(value.rank)
        self.stored[value] = (value, order)
        self.logical[value] = value.shape
        if order != identity(value.rank):
            value.shape = tuple(value.shape[axis] for axis in order)
            value.permute = order

    def order(self, value: Value) -> Permutation:
        return self.stored[value][1] if value in self.stored else identity(value.rank)

    def shape(self, value: Value) -> tuple[Any, ...]:
        """The logical shape."""
        return self.logical.get(value, value.shape)

    def rank(self, value: Value) -> int:
        return len(self.shape(value))

    def demand(self, value: Value, order: Permutation, node: Node) -> Value:
        """A value that holds `value` in `order`; a transpose is added where nothing cheaper does."""
        if value.is_parameter and value not in self.stored:
            return self._permuted_parameter(value, order)
        holder, current = self.stored[value]
        if current == order:
            return holder
        known = self.converted.setdefault((value, order), [])
        for held in known:
            if self._reaches(held, node):
                return held
        result = self._pull(value, order, node)
        if result is None:
            result = self._transpose(holder, axes_between(current, order), node)
            result.origin, result.name = holder.origin, holder.name
            logical = holder.permute or identity(holder.rank)
            composed = tuple(logical[axis] for axis in axes_between(current, order))
            result.permute = None if composed == identity(len(composed)) else composed
        known.append(result)
        return result

    @staticmethod
    def _reaches(held: Value, node: Node) -> bool:
        """Whether a conversion serves `node`; one inside another module moves to where both are, if what it reads is there."""
        made = held.node
        if made is None:
            return True
        pairs = zip(made.scope, node.scope, strict=False)
        common = tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        scopes = [value.node.scope for value in made.inputs() if value.node is not None]
        if any(scope != common[: len(scope)] for scope in scopes):
            return common == made.scope
        made.scope = common
        return True

    def _transpose(self, value: Value, axes: Permutation, node: Node) -> Value:
        builder = Builder(node.scope, node.location)
        result = builder.transpose(value, axes)
        self.nodes += builder.nodes
        return result

    def _permuted_parameter(self, value: Value, order: Permutation) -> Value:
        return value if order == identity(value.rank) else permuted(value, order)

    def _pull(self, value: Value, order: Permutation, node: Node) -> Value | None:
        """Goes back through the author's own transposes and reshapes, where the wanted order lies behind them."""
        producer = self.producers.get(value)
        if producer is None:
            return None
        source = producer.args[0]
        node = self._beside(value, node)
        if producer.op == ".transpose":
            axes = tuple(producer.args[1:])
            return self.demand(source, tuple(axes[axis] for axis in order), node)
        if producer.op == ".reshape" and not source.is_parameter:
            back = permuted_reshape(self.shape(value), self.shape(source), order)
            if back is None or not (
                self._is_cheap(source, back) or self._is_turned_for(value, source)
            ):
                return None
            forth = permuted_reshape(self.shape(source), self.shape(value), back)
            sizes = self.shape(value)  # where an axis of size 1 stands makes no difference
            if forth is None or [a for a in forth if sizes[a] != 1] != [
                a for a in order if sizes[a] != 1
            ]:
                return None
            held = self.demand(source, back, node)
            builder = Builder(node.scope, node.location)
            result = builder.reshape(held, [self.shape(value)[axis] for axis in order])
            self.nodes += builder.nodes
            result.origin, result.permute, result.name = value.origin, order, value.name
            return result
        if producer.op == "mx.expand_dims" and isinstance(producer.args[1], int):
            axis = producer.args[1] % self.rank(value)
            back = without(order, {axis})
            if not self._is_cheap(source, back):
                return None
            held = self.demand(source, back, node)
            shape = [self.shape(value)[a] for a in order]
            builder = Builder(node.scope, node.location)
            result = builder.op(
                "mx.expand_dims", held, order.index(axis), shape=shape, dtype=value.dtype
            )
            self.nodes += builder.nodes
            result.origin, result.permute, result.name = value.origin, order, value.name
            return result
        return None

    @staticmethod
    def _beside(value: Value, node: Node) -> Node:
        """Where a view of the author's is made anew for `node`: not in a module that it is handed to."""
        if value.node is None:
            return node
        pairs = zip(value.node.scope, node.scope, strict=False)
        common = tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return Node(node.op, [], scope=common, location=value.node.location)

    def _of_parameters(self, value: Value, order: Permutation, node: Node) -> Value | None:
        """A sum or another function of parameters alone, made again of parameters stored in `order`; None for other values."""
        if value.is_parameter and value.rank == len(order):
            return self._without_leading_ones(self._permuted_parameter(value, order))
        producer = self.producers.get(value)
        if producer is None or producer.op not in ELEMENTWISE or producer.kwargs:
            return None
        args = [
            self._of_parameters(a, order, node) if isinstance(a, Value) else a
            for a in producer.args
        ]
        if any(
            made is None and given is not None
            for made, given in zip(args, producer.args, strict=True)
        ):
            return None
        builder = Builder(node.scope, node.location)
        result = builder.op(producer.op, *args, dtype=value.dtype)
        self.nodes += builder.nodes
        return result

    def _is_cheap(self, value: Value, order: Permutation) -> bool:
        if self.order(value) == order or self.converted.get((value, order)):
            return True
        producer = self.producers.get(value)
        if producer is None or producer.op != ".transpose":
            return False
        axes = tuple(producer.args[1:])
        return self._is_cheap(producer.args[0], tuple(axes[axis] for axis in order))

    def _is_turned_for(self, value: Value, source: Value) -> bool:
        """Whether a transpose was put in for the reshape alone: another in its place costs nothing."""
        once = all(len(self.users.get(v, [])) == 1 for v in (value, source))
        return once and bool(
            source in self.turned or self.converted.get((source, identity(self.rank(source))))
        )

    def output(self, value: Value) -> Value:
        """What is handed out for `value`; its `permute` is then the order of the output's own axes."""
        held, order = self.stored.get(value, (value, identity(value.rank)))
        if held is not value and value.origin is not None and held not in self.handed_out:
            held.origin, held.permute = (
                value.origin,
                None if order == identity(len(order)) else order,
            )
        self.handed_out.add(held)
        return held

    # --- inputs

    def choose_inputs(self) -> None:
        """An input that a channels-last layer reads first is taken channels-last."""
        for value in self.program.inputs:
            seen: set[Value] = set()
            queue = [(value, identity(value.rank))]  # with the input's axes in the order of its own
            while queue:
                current, axes = queue.pop()
                for user in self.users.get(current, []):
                    if user.layout and user.args[0].rank == value.rank:
                        self._keep(value, tuple(axes[axis] for axis in user.args[1:]))
                        queue.clear()
                        break
                    flows = user.op in ELEMENTWISE or user.op in ("mx.pad", "mx.roll")
                    views = user.op in (".reshape", ".transpose")  # patches and pixels of blocks
                    if (
                        (flows and user.output.rank == value.rank) or views
                    ) and user.output not in seen:
                        seen.add(user.output)
                        turned = user.op == ".transpose" and current.rank == value.rank
                        order = tuple(axes[axis] for axis in user.args[1:]) if turned else axes
                        queue.append((user.output, order))

    # --- nodes

    def place(self, node: Node) -> None:
        arrays = [value for value in node.inputs() if not value.is_parameter]
        if node.op == ".transpose":
            if node.args[0].is_parameter:
                return self._plain(node)
            return self._place_transpose(node)
        if all(self.order(value) == identity(self.rank(value)) for value in arrays):
            return self._place_after_transpose(node) if node.op == ".reshape" else self._plain(node)
        self._rule(node)(node)
        return None

    def _rule(self, node: Node) -> Callable[[Node], None]:
        if node.op in ELEMENTWISE or node.op in ACTIVATIONS or node.op == "nn.prelu":
            return self._place_elementwise
        if node.op in REDUCTIONS:
            return self._place_reduction
        if node.op in ALONG_AXIS:
            return self._place_along_axis
        if node.op in LAST_AXIS_LAYERS:
            return self._place_last_axis
        return {
            ".reshape": self._place_reshape,
            "@": self._place_product,
            "mx.stack": self._place_stack,
            "mx.pad": self._place_pad,
            "mx.roll": self._place_roll,
            "mx.expand_dims": self._place_expand_dims,
            ".squeeze": self._place_squeeze,
            "mx.broadcast_to": self._place_broadcast,
            "[]": self._place_index,
        }.get(node.op, self._plain)

    def _emit(self, node: Node, order: Permutation | None = None) -> None:
        """Adds the node; its outputs are stored in `order`."""
        self.nodes.append(node)
        for value in node.outputs:
            self.producers[value] = node
            self._keep(value, order if order is not None and len(order) == value.rank else None)

    def _plain(self, node: Node) -> None:
        """The node needs its operands as they are logically."""
        original = list(node.args)
        node.replace_inputs(lambda value: self.demand(value, identity(self.rank(value)), node))
        self._emit(node)
        if node.op in _PULLED:
            self.producers[node.output] = Node(node.op, original)

    def _place_transpose(self, node: Node) -> None:
        source, axes = node.args[0], tuple(node.args[1:])
        holder, current = self.stored[source]
        order = relabel(current, axes)
        straight = current == identity(len(current)) and order != identity(len(order))
        if node.layout or not straight or self._comes_back(node.output, order):
            self.stored[node.output] = (holder, order)
            self.logical[node.output] = tuple(self.shape(source)[axis] for axis in axes)
            self.producers[node.output] = Node(node.op, list(node.args))
            if holder.name is None:
                holder.name = node.output.name
            if holder.origin is None and node.output.origin is not None:
                holder.origin = node.output.origin
                holder.permute = None if order == identity(len(order)) else order
            return
        self.turned.add(node.output)
        self._plain(node)

    def _comes_back(self, value: Value, order: Permutation) -> bool:
        """Whether a reader of the value, or of what is computed from it element by element, turns its axes back."""
        seen, queue = {value}, [(value, order)]
        while queue and len(seen) <= _FAR:
            current, order = queue.pop(0)
            for user in self.users.get(current, []):
                if user.op == ".transpose" and tuple(user.args[1:]) == order:
                    return True
                if user.op in REDUCTIONS and self._is_all_in_order(user, order):
                    return True
                after = self._order_after(user, order)
                if after is not None and user.output not in seen:
                    seen.add(user.output)
                    queue.append((user.output, after))
        return False

    def _is_all_in_order(self, reduction: Node, order: Permutation) -> bool:
        """Whether what a reduction leaves stands in its logical order: it may as well reduce the axes where they are."""
        axis = reduction.kwargs.get("axis")
        if axis is None:
            return True
        axes = {a % len(order) for a in (axis if isinstance(axis, (tuple, list)) else [axis])}
        left = without(order, axes)
        return left == identity(len(left))

    def _order_after(self, user: Node, order: Permutation) -> Permutation | None:
        """How the result of a node that minds no order is stored."""
        if user.op in ELEMENTWISE or user.op in ACTIVATIONS or user.op == "mx.pad":
            return order if user.output.rank == len(order) else None
        if user.op == ".reshape":
            return permuted_reshape(user.args[0].shape, user.output.shape, order)
        if user.op == "[]" and all(isinstance(k, (int, slice)) for k in user.attrs["key"]):
            return without(
                order, {a for a, k in enumerate(user.attrs["key"]) if isinstance(k, int)}
            )
        return None

    def _place_elementwise(self, node: Node) -> None:
        rank = node.output.rank
        order = next(
            (
                self.order(v)
                for v in sorted(values_in(node.args), key=lambda v: 1 in self.shape(v))
                if not v.is_parameter and self.rank(v) == rank and self.order(v) != identity(rank)
            ),
            identity(rank),
        )

        def operand(value: Value) -> Value:
            missing = rank - self.rank(value)
            if missing == 0:
                if order != self.order(value) and not value.is_parameter:
                    made = self._of_parameters(value, order, node)
                    if made is not None:
                        return made
                held = self.demand(value, order, node)
                return self._without_leading_ones(held) if value.is_parameter else held
            tail = tuple(axis - missing for axis in order[missing:])
            sizes = self.shape(value)
            if sizes.count(1) == len(sizes) - 1 and sizes[tail[-1]] != 1 and len(sizes) > 1:
                return self._vector(value, node)  # of a number for each channel, say
            if sorted(tail) == list(range(self.rank(value))):
                return self.demand(value, tail, node)
            held = self.demand(value, identity(self.rank(value)), node)
            builder = Builder(node.scope, node.location)
            shape = [1] * missing + list(self.shape(value))
            if value.is_parameter:
                return self._without_leading_ones(
                    self._permuted_parameter(reshaped(held, tuple(shape)), order)
                )
            wide = (
                builder.reshape(held, [shape[axis] for axis in order])
                if shape.count(1) >= rank - 1
                else None
            )
            if wide is None:
                wide = builder.transpose(builder.reshape(held, shape), order)
            self.nodes += builder.nodes
            return wide

        node.args = [operand(a) if isinstance(a, Value) else a for a in node.args]
        self._emit(node, order)

    def _vector(self, value: Value, node: Node) -> Value:
        """A value with one axis that is not 1, as that axis alone."""
        held = self.stored[value][0] if value in self.stored else value
        if value.is_parameter:
            return reshaped(held, tuple(size for size in held.shape if size != 1))
        builder = Builder(node.scope, node.location)
        result = builder.reshape(held, [size for size in held.shape if size != 1])
        self.nodes += builder.nodes
        return result

    def _without_leading_ones(self, value: Value) -> Value:
        """A parameter of shape (1, 1, C) is stored as (C,): it broadcasts the same."""
        sizes = list(value.shape)
        while len(sizes) > 1 and sizes[0] == 1:
            sizes.pop(0)
        return value if len(sizes) == value.rank else reshaped(value, tuple(sizes))

    def _place_reduction(self, node: Node) -> None:
        value = node.args[0]
        order = self.order(value)
        axis = node.kwargs.get("axis")
        if axis is None:
            node.args[0] = self.stored[value][0]
            return self._emit(node)
        axes = {a % len(order) for a in (axis if isinstance(axis, (tuple, list)) else [axis])}
        places = tuple(sorted(order.index(a) for a in axes))
        node.args[0] = self.stored[value][0]
        node.kwargs["axis"] = places if isinstance(axis, (tuple, list)) else places[0]
        self._emit(node, order if node.kwargs.get("keepdims") else without(order, axes))
        return None

    def _place_along_axis(self, node: Node) -> None:
        arrays = list(values_in(node.args))
        rank = self.rank(arrays[0])
        order = next(
            (o for v in arrays if not v.is_parameter and (o := self.order(v)) != identity(rank)),
            identity(rank),
        )
        if "axis" not in node.kwargs:
            return self._plain(node)
        node.args = [self._demanded(item, order, node) for item in node.args]
        node.kwargs["axis"] = order.index(node.kwargs["axis"] % rank)
        self._emit(node, order)
        return None

    def _demanded(self, item: Any, order: Permutation, node: Node) -> Any:
        if isinstance(item, Value):
            return self.demand(item, order, node)
        return (
            [self._demanded(entry, order, node) for entry in item]
            if isinstance(item, list)
            else item
        )

    def _place_product(self, node: Node) -> None:
        """Of operands whose last two axes are stored swapped, the product the other way round is the swapped product."""
        x, y = node.args[:2]
        rank = node.output.rank
        if not rank == self.rank(x) == self.rank(y):
            return self._plain(node)
        swapped = (*range(rank - 2), rank - 1, rank - 2)
        held = [v for v in (x, y) if not v.is_parameter]
        fits = [self.order(v) == swapped for v in held]
        if all(fits) or (any(fits) and self._comes_back(node.output, swapped)):
            node.args = [self.demand(y, swapped, node), self.demand(x, swapped, node)]
            self._emit(node, swapped)
            return None
        return self._plain(node)

    def _place_last_axis(self, node: Node) -> None:
        value = node.args[0]
        order = self.order(value)
        if order[-1] != len(order) - 1:
            return self._plain(node)
        node.args[0] = self.stored[value][0]
        self._emit(node, order)
        return None

    def _place_reshape(self, node: Node) -> None:
        value = node.args[0]
        order = permuted_reshape(self.shape(value), node.output.shape, self.order(value))
        if order is None:
            return None if self._flatten_into_linear(node) else self._plain(node)
        held = self.stored[value][0]
        target = [node.output.shape[axis] for axis in order]
        if tuple(target) == held.shape:  # only axes of size 1 moved
            self.stored[node.output] = (held, order)
            self.logical[node.output] = node.output.shape
            self.producers[node.output] = Node(node.op, list(node.args))
            return None
        source = list(node.args)
        node.args = [held, *target]
        self._emit(node, order)
        self.producers[node.output] = Node(node.op, source)
        return None

    def _flatten_into_linear(self, node: Node) -> bool:
        """Flattens a feature map as it is stored; the Linear that reads it has its weight's columns in that order."""
        value, out = node.args[0], node.output
        order, sizes = self.order(value), self.shape(value)[1:]
        users = self.users.get(out, [])
        flat = self.rank(value) > 2 and out.rank == 2 and order[0] == 0
        if not flat or not users or out in self.program.output_values():
            return False
        if not all(isinstance(size, int) for size in sizes):
            return False
        weights = [user.params.get("weight") if user.op == "nn.Linear" else None for user in users]
        for weight in weights:
            if weight is None or sum(weight in n.inputs() for n in self.program.nodes) != 1:
                return False
        for user, weight in zip(users, weights, strict=True):
            assert weight is not None
            columns = permuted(reshaped(weight, (weight.shape[0], *sizes)), order)
            user.params["weight"] = reshaped(columns, weight.shape)
        node.args = [self.stored[value][0], *out.shape]
        out.origin = None  # its elements stand in another order than the source's
        self._emit(node)
        return True

    def _place_stack(self, node: Node) -> None:
        arrays = node.args[0]
        rank = self.rank(arrays[0])
        axis = node.kwargs["axis"] % (rank + 1)
        orders = [self.order(v) for v in arrays if not v.is_parameter]
        order = next((o for o in orders if o != identity(rank)), identity(rank))
        node.args[0] = [self.demand(v, order, node) for v in arrays]
        wide = inserted(order, axis)
        node.kwargs["axis"] = wide.index(axis)
        self._emit(node, wide)

    def _place_after_transpose(self, node: Node) -> None:
        """A reshape that the author's transpose makes no difference to (beside sizes of 1) reads what was before it."""
        source = node.args[0]
        producer = self.producers.get(source)
        if (
            producer is not None
            and producer.op == ".transpose"
            and self.rank(source) > node.output.rank
        ):
            before = producer.args[0]
            axes = tuple(producer.args[1:])
            order = relabel(self.order(before), axes)
            back = axes == (
                0,
                len(axes) - 1,
                *range(1, len(axes) - 1),
            )  # channels-last to channels-first
            if back and permuted_reshape(self.shape(source), node.output.shape, order) == identity(
                node.output.rank
            ):
                node.args[0] = self.stored[before][0]
        self._plain(node)

    def _place_pad(self, node: Node) -> None:
        order = self.order(node.args[0])
        node.args[0] = self.stored[node.args[0]][0]
        node.args[1] = [node.args[1][axis] for axis in order]
        self._emit(node, order)

    def _place_roll(self, node: Node) -> None:
        value, axis = node.args[0], node.kwargs.get("axis")
        if axis is None:
            return self._plain(node)
        order = self.order(value)
        single = isinstance(axis, int)
        places = [order.index(a % len(order)) for a in ([axis] if single else axis)]
        node.args[0] = self.stored[value][0]
        node.kwargs["axis"] = places[0] if single else tuple(places)
        self._emit(node, order)
        return None

    def _place_expand_dims(self, node: Node) -> None:
        value, axis = node.args[0], node.args[1]
        if not isinstance(axis, int):
            return self._plain(node)
        order = inserted(self.order(value), axis % (self.rank(value) + 1))
        node.args = [self.stored[value][0], order.index(axis % len(order))]
        self._emit(node, order)
        self.producers[node.output] = Node(node.op, [value, axis])
        return None

    def _place_squeeze(self, node: Node) -> None:
        value, axis = node.args[0], node.args[1]
        order = self.order(value)
        single = isinstance(axis, int)
        axes = [a % len(order) for a in ([axis] if single else axis)]
        places = sorted(order.index(a) for a in axes)
        node.args = [self.stored[value][0], places[0] if single else tuple(places)]
        self._emit(node, without(order, set(axes)))

    def _place_broadcast(self, node: Node) -> None:
        value, shape = node.args[0], node.args[1]
        if len(shape) != self.rank(value):
            return self._plain(node)
        order = self.order(value)
        node.args = [self.stored[value][0], tuple(shape[axis] for axis in order)]
        self._emit(node, order)
        return None

    def _place_index(self, node: Node) -> None:
        """Slices and single ints follow the axes; index arrays and new axes need the logical order."""
        value, key = node.args[0], node.attrs["key"]
        rank = self.rank(value)
        if any(isinstance(k, Value) or k is None or k is Ellipsis for k in key):
            return self._plain(node)
        full = [*key, *[slice(None)] * (rank - len(key))]
        order = self.order(value)
        moved = [full[axis] for axis in order]
        while len(moved) > 1 and moved[-1] == slice(None):
            moved.pop()
        node.args = [self.stored[value][0]]
        node.attrs = {"key": tuple(moved)}
        self._emit(
            node, without(order, {axis for axis, k in enumerate(full) if isinstance(k, int)})
        )
        return None
