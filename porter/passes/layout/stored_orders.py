"""How each value is stored: some order of its axes, and what it takes to have another."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.ir.ops import ELEMENTWISE, FILLED
from porter.lowering.parameters import permuted, reshaped
from porter.passes.layout.permutations import (
    Permutation,
    axes_between,
    identity,
    permuted_reshape,
    without,
)

#: What `StoredOrders._pull` goes back through.
PULLED = (".transpose", ".reshape", "mx.expand_dims")


class StoredOrders:
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
            self.keep(value)
        self.users = program.users()

    def keep(self, value: Value, order: Permutation | None = None) -> None:
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
            return self.permuted_parameter(value, order)
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

    def permuted_parameter(self, value: Value, order: Permutation) -> Value:
        return value if order == identity(value.rank) else permuted(value, order)

    def _pull(self, value: Value, order: Permutation, node: Node) -> Value | None:
        """Goes back through the author's own transposes and reshapes, where the wanted order lies behind them."""
        producer = self.producers.get(value)
        if producer is None:
            return None
        if producer.op in FILLED:
            return self._filled(value, order, producer)
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

    def _filled(self, value: Value, order: Permutation, producer: Node) -> Value:
        """An array of one number in another order, made in the place of the first."""
        shape = [self.shape(value)[axis] for axis in order]
        builder = Builder(producer.scope, producer.location)
        args = (type(producer.args[0])(shape), *producer.args[1:])
        result = builder.node(
            producer.op, *args, shapes=[tuple(shape)], dtypes=[value.dtype], **producer.kwargs
        ).output
        place = self.nodes.index(producer)
        self.nodes[place:place] = builder.nodes
        result.origin, result.permute, result.name = value.origin, order, value.name
        return result

    @staticmethod
    def _beside(value: Value, node: Node) -> Node:
        """Where a view of the author's is made anew for `node`: not in a module that it is handed to."""
        if value.node is None:
            return node
        pairs = zip(value.node.scope, node.scope, strict=False)
        common = tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return Node(node.op, [], scope=common, location=value.node.location)

    def of_parameters(self, value: Value, order: Permutation, node: Node) -> Value | None:
        """A sum or another function of parameters alone, made again of parameters stored in `order`; None for other values."""
        if value.is_parameter and value.rank == len(order):
            return without_leading_ones(self.permuted_parameter(value, order))
        producer = self.producers.get(value)
        if producer is None or producer.op not in ELEMENTWISE or producer.kwargs:
            return None
        args = [
            self.of_parameters(a, order, node) if isinstance(a, Value) else a for a in producer.args
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

    def emit(self, node: Node, order: Permutation | None = None) -> None:
        """Adds the node; its outputs are stored in `order`."""
        self.nodes.append(node)
        for value in node.outputs:
            self.producers[value] = node
            self.keep(value, order if order is not None and len(order) == value.rank else None)

    def place_plain(self, node: Node) -> None:
        """The node needs its operands as they are logically."""
        original = list(node.args)
        node.replace_inputs(lambda value: self.demand(value, identity(self.rank(value)), node))
        self.emit(node)
        if node.op in PULLED:
            self.producers[node.output] = Node(node.op, original)


def without_leading_ones(value: Value) -> Value:
    """A parameter of shape (1, 1, C) is stored as (C,): it broadcasts the same."""
    sizes = list(value.shape)
    while len(sizes) > 1 and sizes[0] == 1:
        sizes.pop(0)
    return value if len(sizes) == value.rank else reshaped(value, tuple(sizes))
