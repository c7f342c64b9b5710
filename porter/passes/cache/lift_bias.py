"""What a mask does beside hiding keys: ALiBi and other biases by distance, and conditions on positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np
import sympy

from porter.ir import Node, Program, Value, values_in
from porter.ir.builder import simplify
from porter.ir.evaluate import Unknown
from porter.ir.ops import ELEMENTWISE
from porter.passes.fuse.match import commuted, is_number
from porter.passes.masks import HIDDEN, Sight, sight_of
from porter.passes.positions import as_array, at_length

#: The axis of a mask that a size runs along.
QUERIES, KEYS = "queries", "keys"
Labels = tuple[str | None, ...]


class NotLifted(Exception):
    """Why a bias can't be computed for the keys of a cache."""


def divided(program: Program, mask: Any) -> tuple[Sight, Value | None] | None:
    """What each query sees, and the rest of the mask: added to the scores, or another condition. None for no causal mask."""
    sight = sight_of(program, mask)
    if sight is not None:
        return sight, None
    if not isinstance(mask, Value):
        return None
    for seen, rest in _parts(mask):
        found = divided(program, seen)
        if found is None or found[0].chunk is not None:
            continue
        sight, more = found
        if more is None:
            return (Sight(), mask) if sight.window is not None else (sight, rest)
    return (Sight(), mask) if _hides_what_follows(program, mask) else None


def _parts(mask: Value) -> Iterator[tuple[Value, Value]]:
    """(what hides keys, the rest) as a mask may be made of them."""
    node = mask.node
    if node is None:
        return
    if node.op in ("+", "&", "mx.logical_and"):
        yield from (
            (a, b) for a, b in commuted(node) if isinstance(a, Value) and isinstance(b, Value)
        )
    if node.op == "mx.where":
        condition, kept, fill = node.args
        if is_number(fill) and fill <= HIDDEN and isinstance(kept, Value):
            yield condition, kept
    if node.op == "mx.broadcast_to":
        yield from _parts(node.args[0])


def _hides_what_follows(program: Program, mask: Value) -> bool:
    """Whether a mask made of positions hides every key after its query, whatever else it does."""
    try:
        array = as_array(at_length(program, 40)(mask))
    except (Unknown, ValueError, IndexError):
        return False
    hidden = ~array if array.dtype == bool else array < HIDDEN
    if hidden.shape[-2:] != (40, 40):
        return False
    return bool(hidden[..., np.triu(np.ones((40, 40), bool), 1)].all())


class BiasLift:
    """Writes a bias anew for a text that goes on: its queries are the last of `keys` positions.

    Positions count from the first key, whatever stands before it: only differences of positions may matter.
    """

    def __init__(self, program: Program, length: sympy.Symbol, keys: sympy.Symbol):
        self.program, self.length, self.keys = program, length, keys
        self.nodes: list[Node] = []
        self.done: dict[tuple[Value, Labels], Value] = {}

    def lift(self, bias: Value, positions: Value, queries: Value, scope: Any) -> Value:
        """`positions` are those of all keys, `queries` those of the queries, in `scope`."""
        self.counts = {KEYS: positions, QUERIES: queries}
        self.scope = scope
        labels: Labels = (*(None,) * (bias.rank - 2), QUERIES, KEYS)
        lifted = self._value(bias, labels)
        self._check(bias, lifted, positions, queries)
        return lifted

    def _check(self, bias: Value, lifted: Value, positions: Value, queries: Value) -> None:
        """Raises NotLifted unless it gives the last rows of the whole bias, wherever positions start."""
        short, long = 5, 9
        try:
            weights = {v: _random(v) for v in _parameters(bias)}
            whole = as_array(at_length(self.program, long, weights)(bias))
            for start in (0, 4):
                counts = mx.arange(start, start + long)
                known = {**weights, positions: counts, queries: counts[-short:]}
                probe = at_length(self.program, short, known)
                probe.sizes[self.keys] = long
                rows = as_array(probe(lifted))
                _compare(rows, whole)
        except (Unknown, ValueError, IndexError) as error:
            raise NotLifted(f"it can't be evaluated ({error})") from error

    def _has_length(self, size: Any) -> bool:
        return self.length in getattr(size, "free_symbols", ())

    def _value(self, value: Value, labels: Labels) -> Value:
        if value.is_parameter:
            return value
        if value.node is not None and not self._depends(value):
            return self._copied(value, value.node)
        if value.node is None:
            raise NotLifted("it depends on the tokens themselves")
        labels = tuple(
            label if self._has_length(size) else None for label, size in zip(labels, value.shape, strict=True)
        )  # fmt: skip
        key = (value, labels)
        if key not in self.done:
            self.done[key] = self._written(value, value.node, labels)
        return self.done[key]

    def _copied(self, value: Value, node: Node) -> Value:
        """What stands in a layer, the slopes of ALiBi say, may be read before it."""
        key: tuple[Value, Labels] = (value, ())
        if key not in self.done:
            table = {v: self._value(v, (None,) * v.rank) for v in node.inputs()}
            new = Node(
                node.op, list(node.args), dict(node.kwargs), dict(node.attrs), dict(node.params)
            )
            new.scope, new.location = self.scope, node.location
            new.replace_inputs(lambda v: table.get(v, v))
            new.outputs = [Value(v.shape, v.dtype, new, v.name) for v in node.outputs]
            self.nodes.append(new)
            self.done.update({(v, ()): w for v, w in zip(node.outputs, new.outputs, strict=True)})
        return self.done[key]

    def _depends(self, value: Value) -> bool:
        stack, seen = [value], set()
        while stack:
            item = stack.pop()
            if item in seen:
                continue
            seen.add(item)
            if any(map(self._has_length, item.shape)):
                return True
            if item.node is not None:
                if any(map(self._has_length, _numbers(item.node.args))):
                    return True
                stack += item.node.inputs()
        return False

    def _written(self, value: Value, node: Node, labels: Labels) -> Value:
        if any(label is None and self._has_length(s) for label, s in zip(labels, value.shape, strict=True)):  # fmt: skip
            raise NotLifted("positions run along an axis of it that is neither queries' nor keys'")
        if (counted := self._counted(value, labels)) is not None:
            return counted
        operands, args, attrs = self._operands(node, labels)
        table = {old: self._value(old, its) for old, its in operands}
        if any(self.keys in getattr(n, "free_symbols", ()) for n in _numbers([*args, *_bounds(attrs)])):  # fmt: skip
            attrs = {**attrs, "measured": self.counts[KEYS]}  # where the number of keys can be read
        new = Node(node.op, args, dict(node.kwargs), attrs, dict(node.params), scope=self.scope)
        new.location = node.location
        new.replace_inputs(lambda v: table.get(v, v))
        shape = tuple(self._size(s, label) for s, label in zip(value.shape, labels, strict=True))
        new.outputs = [Value(shape, value.dtype, new, value.name)]
        self.nodes.append(new)
        return new.output

    def _size(self, size: Any, label: str | None) -> Any:
        return (
            size.subs(self.length, self.keys) if label == KEYS and self._has_length(size) else size
        )

    def _counted(self, value: Value, labels: Labels) -> Value | None:
        """The positions themselves, where the value is 0, 1, 2, ... (or from another start)."""
        if value.rank != 1 or not value.dtype.startswith("int"):
            return None
        try:
            rows = [as_array(at_length(self.program, n)(value)) for n in (6, 9)]
        except (Unknown, ValueError):
            return None
        starts = [int(row[0]) for row in rows]
        if any((row != start + np.arange(len(row))).any() for row, start in zip(rows, starts, strict=True)):  # fmt: skip
            return None
        label = labels[0]
        if starts[0] != starts[1]:  # counted from the end
            return None
        assert label is not None
        made = self.counts[label]
        if not starts[0]:
            return made
        node = Node("+", [made, starts[0]], scope=self.scope)
        node.outputs = [Value(made.shape, made.dtype, node, value.name)]
        self.nodes.append(node)
        return node.output

    def _operands(
        self, node: Node, labels: Labels
    ) -> tuple[list[tuple[Value, Labels]], list[Any], dict[str, Any]]:
        """What the node reads with the labels of its axes, and its arguments and attributes for the new sizes."""
        op, args = node.op, list(node.args)
        if op in ELEMENTWISE:
            if any(map(self._has_length, _numbers(args))):
                raise NotLifted("it reads the number of tokens")
            return [(v, labels[len(labels) - v.rank :]) for v in values_in(args)], args, node.attrs
        if op == "mx.arange":
            return [], [self._size(item, labels[0]) for item in args], node.attrs
        source = args[0] if args and isinstance(args[0], Value) else None
        if source is None:
            raise NotLifted(f"{op} makes it")
        if op in ("nn.Embedding",):
            return [(source, labels[:-1])], args, node.attrs
        if op == "mx.broadcast_to":
            args[1] = [self._size(s, label) for s, label in zip(args[1], labels, strict=True)]
            return [(source, labels[len(labels) - source.rank :])], args, node.attrs
        if op == ".transpose":
            back = sorted(range(len(labels)), key=lambda axis: args[1 + axis])
            return [(source, tuple(labels[axis] for axis in back))], args, node.attrs
        if op in (".reshape", "mx.expand_dims", ".squeeze"):
            if op == ".reshape":
                args[1:] = [self._size(s, label) for s, label in zip(args[1:], labels, strict=True)]
            return [(source, self._aligned(source, node.output, labels))], args, node.attrs
        if op == "[]":
            return [self._indexed(node, source, labels)], args, self._key(node, source, labels)
        raise NotLifted(f"{op} is part of it")

    def _aligned(self, source: Value, out: Value, labels: Labels) -> Labels:
        """Labels of what is reshaped by axes of size 1 only."""
        wide = [(s, label) for s, label in zip(out.shape, labels, strict=True) if s != 1]
        if [s for s, _ in wide] != [s for s in source.shape if s != 1]:
            raise NotLifted("it merges axes")
        rest = iter(label for _, label in wide)
        return tuple(None if s == 1 else next(rest) for s in source.shape)

    def _indexed(self, node: Node, source: Value, labels: Labels) -> tuple[Value, Labels]:
        """What is sliced, and its labels; a slice of something without tokens may have as many as there are."""
        axes: list[str | None] = []
        at = 0
        for part in node.attrs["key"]:
            if part is None:
                at += 1
            elif isinstance(part, slice):
                axes.append(labels[at])
                at += 1
            elif isinstance(part, int):
                axes.append(None)
            else:
                raise NotLifted("it looks up what positions say")
        return source, (*axes, *labels[at:])

    def _key(self, node: Node, source: Value, labels: Labels) -> dict[str, Any]:
        own = iter(self._indexed(node, source, labels)[1])
        key = []
        for part in node.attrs["key"]:
            label = None if part is None else next(own)
            if isinstance(part, slice):
                part = slice(*(self._size(b, label) for b in (part.start, part.stop, part.step)))
            key.append(part)
        return {"key": tuple(key)}


def _compare(rows: np.ndarray, whole: np.ndarray) -> None:
    """Equal to the last rows, but for a number in each row where they are added to scores."""
    rank = max(rows.ndim, 2)
    rows, whole = (x.reshape((1,) * (rank - x.ndim) + x.shape) for x in (rows, whole))
    if whole.shape[-2] > 1:
        whole = whole[..., -rows.shape[-2] :, :]
    if rows.shape != whole.shape:
        raise NotLifted("it has other axes than queries and keys")
    if rows.dtype != bool:
        seen = (rows >= HIDDEN) & (whole >= HIDDEN)
        rows, whole = (np.where(seen, x - x[..., -1:], 0) for x in (rows, whole))
    if not np.allclose(rows, whole, rtol=1e-5, atol=1e-5):
        raise NotLifted("it depends on more than the distance of positions")


def _random(parameter: Value) -> mx.array:
    if parameter.data is not None:
        return mx.array(np.asarray(parameter.data))
    return mx.random.normal(tuple(parameter.shape), key=mx.random.key(1))


def weights_of(value: Value) -> list[Value]:
    """The parameters without elements at hand that it is made from."""
    return [v for v in _parameters(value) if v.data is None]


def _parameters(value: Value) -> Iterator[Value]:
    stack, seen = [value], set()
    while stack:
        item = stack.pop()
        if item in seen:
            continue
        seen.add(item)
        if item.is_parameter:
            yield item
        elif item.node is not None:
            stack += item.node.inputs()


def _bounds(attrs: dict[str, Any]) -> list[Any]:
    """The bounds of an index."""
    slices = [part for part in attrs.get("key", ()) if isinstance(part, slice)]
    return [bound for part in slices for bound in (part.start, part.stop, part.step)]


def _numbers(args: list[Any]) -> Iterator[Any]:
    for item in args:
        if isinstance(item, (list, tuple)):
            yield from _numbers(list(item))
        elif isinstance(item, sympy.Basic):
            yield simplify(item)
