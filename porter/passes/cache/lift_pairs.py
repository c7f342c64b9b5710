"""Arrays of pairs of tokens, a bias by distance or the choice of the keys that count, for a text that goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy

from porter.ir import Frame, Node, Program, Value, values_in
from porter.ir.builder import simplify
from porter.ir.evaluate import Unknown
from porter.ir.ops import ELEMENTWISE, FILLED, REDUCTIONS
from porter.passes.cache.check_pairs import check_pairs
from porter.passes.cache.divide_mask import parts_of
from porter.passes.cache.plan import NotLifted, Plan
from porter.passes.cache.tokenwise import mixes_tokens
from porter.passes.masks import Sight, sight_of
from porter.passes.positions import as_array, at_length

#: The axis of a mask that a size runs along.
QUERIES, KEYS = "queries", "keys"
Labels = tuple[str | None, ...]

_VIEWS = (".transpose", ".reshape", "mx.expand_dims", ".squeeze", "mx.broadcast_to", ".astype")
_ALONG = {
    f"mx.{name}"
    for name in "softmax cumsum sort argsort argpartition take_along_axis put_along_axis".split()
}


class LiftPairs:
    """Writes a bias anew for a text that goes on: its queries are the last of `keys` tokens.

    Positions count from the first key, whatever stands before it: only differences of positions may matter. What is made of
    the tokens themselves is taken of the queries as it is (`own`), and of the keys through a cache (`fetched`, with what
    comes of it).
    """

    def __init__(
        self, program: Program, plan: Plan, keys: sympy.Symbol, sight: Sight, mask: Value, positions: Value, queries: Value
    ):  # fmt: skip
        """`mask` shows what `sight` says, `positions` are those of all keys, `queries` those of the queries."""
        self.program, self.plan, self.keys = program, plan, keys
        self.text, self.length = plan.text, plan.text.length
        self.sight, self.mask = sight, mask
        self.counts = {KEYS: positions, QUERIES: queries}
        self.nodes: list[Node] = []
        self.own: dict[Value, None] = {}
        self.fetched: dict[Value, Value] = {}
        self._done: dict[tuple[Value, Labels], Value] = {}
        self._sights: dict[Value, Sight | None] = {}

    def lift(self, bias: Value, scope: tuple[Frame, ...]) -> Value:
        """The bias, made in `scope` and in the modules within by `nodes`. Raises NotLifted."""
        self.scope = scope
        labels: Labels = (*(None,) * (bias.rank - 2), QUERIES, KEYS)
        lifted = self._value(bias, labels)
        check_pairs(self, bias, lifted)
        return lifted

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
        if key not in self._done:
            self._done[key] = self._taken(value, labels) or self._written(value, value.node, labels)
        return self._done[key]

    # --- what is made of tokens

    def _taken(self, value: Value, labels: Labels) -> Value | None:
        """A row of features for each token: of the queries as they are, of the keys from a cache."""
        kinds = [label for label in labels if label is not None]
        if value not in self.text.depends or len(kinds) != 1 or not self._is_alone(value):
            return None
        if kinds == [QUERIES]:
            self.own[value] = None
            return value
        assert value.node is not None
        if value.node.op in _VIEWS and value.node.args[0] in self.text.depends:
            return None  # which is done again with what it views
        return self._fetched(value, labels.index(KEYS))

    def _is_alone(self, value: Value) -> bool:
        """Whether a token's features are made without looking at other tokens, but for attention."""
        stack, seen = [value], set()
        while stack:
            item = stack.pop()
            if item in seen or item not in self.text.depends or item.node is None:
                continue
            seen.add(item)
            if item.node in self.plan.guards or item.node in self.text.own:
                continue
            if mixes_tokens(item.node, self.length) is not None:
                return False
            stack += item.node.inputs()
        return True

    def _fetched(self, value: Value, axis: int) -> Value:
        """All tokens so far, through a cache of (batch, heads, tokens, features)."""
        if value.rank > 4 or axis == 0 or value.shape[0] != self.text.ids.shape[0]:
            raise NotLifted("a cache can't keep what it is made of the keys")
        x, rank, at = value, value.rank, value.node
        heads = [a for a in range(1, rank) if a != axis]
        order = (0, *heads[:-1], axis, *heads[-1:])
        turned = order != tuple(range(rank))
        if turned:
            x = self._put(".transpose", [x, *order], [x.shape[a] for a in order], at)
        new_axes = {2: (1, 3), 3: (1,), 4: ()}[rank]
        for a in new_axes:
            x = self._put("mx.expand_dims", [x, a], (*x.shape[:a], 1, *x.shape[a:]), at)
        cache = Value((), "cache", name="cache")
        shape = (*x.shape[:2], self.keys, x.shape[3])
        got = self.fetched[value] = self._put("fn.all_tokens", [x, cache], shape, at)
        for a in reversed(new_axes):
            got = self._put(".squeeze", [got, a], (*got.shape[:a], *got.shape[a + 1 :]), at)
        if turned:
            back = [order.index(a) for a in range(rank)]
            got = self._put(".transpose", [got, *back], [got.shape[a] for a in back], at)
        return got

    def _scope_at(self, place: Node | None) -> tuple[Frame, ...]:
        inside = place is not None and place.scope[: len(self.scope)] == self.scope
        return place.scope if place is not None and inside else self.scope

    def _put(
        self, op: str, args: list[Any], shape: Any, place: Node | None = None, dtype: str | None = None
    ) -> Value:  # fmt: skip
        """A new node, in the module of `place` where that is within; of the first argument's type, where none is given."""
        node = Node(op, args, scope=self._scope_at(place))
        node.outputs = [Value(tuple(shape), dtype or args[0].dtype, node, args[0].name)]
        self.nodes.append(node)
        return node.output

    # --- what is made of positions, and of pairs

    def _copied(self, value: Value, node: Node) -> Value:
        """What stands in a layer, the slopes of ALiBi say, may be read before it."""
        key: tuple[Value, Labels] = (value, ())
        if key not in self._done:
            table = {v: self._value(v, (None,) * v.rank) for v in node.inputs()}
            new = Node(
                node.op, list(node.args), dict(node.kwargs), dict(node.attrs), dict(node.params)
            )
            new.scope, new.location = self.scope, node.location
            new.replace_inputs(lambda v: table.get(v, v))
            new.outputs = [Value(v.shape, v.dtype, new, v.name) for v in node.outputs]
            self.nodes.append(new)
            self._done.update({(v, ()): w for v, w in zip(node.outputs, new.outputs, strict=True)})
        return self._done[key]

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
                if any(map(self._has_length, numbers_in(item.node.args))):
                    return True
                stack += item.node.inputs()
        return False

    def _written(self, value: Value, node: Node, labels: Labels) -> Value:
        if any(label is None and self._has_length(s) for label, s in zip(labels, value.shape, strict=True)):  # fmt: skip
            raise NotLifted("positions run along an axis of it that is neither queries' nor keys'")
        if (counted := self._counted(value, labels)) is not None:
            return counted
        if labels[-2:] == (QUERIES, KEYS) and (made := self._masked(value, labels)) is not None:
            return made
        if node.op == "mx.broadcast_to":  # what reads it does that by itself
            source = node.args[0]
            return self._value(source, labels[len(labels) - source.rank :])
        if len(node.outputs) != 1:
            raise NotLifted(f"{node.op} is part of it")
        operands, args, attrs = self._operands(node, labels)
        table = {old: self._value(old, its) for old, its in operands}
        if any(self.keys in getattr(n, "free_symbols", ()) for n in numbers_in([*args, *_bounds(attrs)])):  # fmt: skip
            attrs = {**attrs, "measured": self.counts[KEYS]}  # where the number of keys can be read
        new = Node(node.op, args, dict(node.kwargs), attrs, dict(node.params))
        new.scope = self._scope_at(node)
        new.location = node.location
        new.replace_inputs(lambda v: table.get(v, v))
        new.outputs = [Value(self._sizes(value.shape, labels), value.dtype, new, value.name)]
        self.nodes.append(new)
        return new.output

    def _masked(self, value: Value, labels: Labels) -> Value | None:
        """Scores of which a mask hides some, and masks of positions themselves."""
        if value not in self.text.depends:
            sight = self._sight_of(value) if value.shape[-2:] == (self.length,) * 2 else None
            return None if sight is None else self._seen(sight, value)
        for seen, rest, fill in parts_of(value):
            if seen in self.text.depends or self._sight_of(seen) != self.sight:
                continue
            scores = self._value(rest, labels[len(labels) - rest.rank :])
            fill = False if scores.dtype == "bool" else fill
            shape = self._sizes(value.shape, labels)
            return self._put("fn.masked", [scores, self.mask, fill], shape, value.node)
        return None

    def _sight_of(self, value: Value) -> Sight | None:
        if value not in self._sights:
            self._sights[value] = sight_of(self.program, value)
        return self._sights[value]

    def _seen(self, sight: Sight, value: Value) -> Value | None:
        """Which keys are in sight, written with positions."""
        if sight.chunk is not None:
            return None
        keys, shape = self.counts[KEYS], (self.length, self.keys)
        queries = self._put("mx.expand_dims", [self.counts[QUERIES], 1], (self.length, 1))
        shown = self._put(">=", [queries, keys], shape, dtype="bool")
        if sight.window is not None:
            begin = self._put("-", [queries, sight.window], (self.length, 1))
            near = self._put("<", [begin, keys], shape, dtype="bool")
            shown = self._put("&", [shown, near], shape)
        if value.dtype != "bool":  # added to scores
            least = float(as_array(at_length(self.program, 6)(value)).min())
            shown = self._put("mx.where", [shown, 0.0, least], shape, dtype=value.dtype)
        shown.name = value.name
        return shown

    def _size(self, size: Any, label: str | None) -> Any:
        return (
            size.subs(self.length, self.keys) if label == KEYS and self._has_length(size) else size
        )

    def _sizes(self, shape: Any, labels: Labels) -> tuple[Any, ...]:
        return tuple(self._size(s, label) for s, label in zip(shape, labels, strict=True))

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
        return self._put("+", [made, starts[0]], made.shape) if starts[0] else made

    def _operands(
        self, node: Node, labels: Labels
    ) -> tuple[list[tuple[Value, Labels]], list[Any], dict[str, Any]]:
        """What the node reads with the labels of its axes, and its arguments and attributes for the new sizes."""
        op, args = node.op, list(node.args)
        if op in ELEMENTWISE:
            if any(map(self._has_length, numbers_in(args))):
                raise NotLifted("it reads the number of tokens")
            return [(v, labels[len(labels) - v.rank :]) for v in values_in(args)], args, node.attrs
        if op == "mx.arange":
            return [], [self._size(item, labels[0]) for item in args], node.attrs
        if op in FILLED:
            return [], [self._sizes(args[0], labels), *args[1:]], node.attrs
        source = args[0] if args and isinstance(args[0], Value) else None
        if source is None:
            raise NotLifted(f"{op} makes it")
        if op == "nn.Embedding":
            return [(source, labels[:-1])], args, node.attrs
        if op == ".transpose":
            back = sorted(range(len(labels)), key=lambda axis: args[1 + axis])
            return [(source, tuple(labels[axis] for axis in back))], args, node.attrs
        if op in (".reshape", "mx.expand_dims", ".squeeze"):
            if op == ".reshape":
                args[1:] = [self._size(s, label) for s, label in zip(args[1:], labels, strict=True)]
            return [(source, self._aligned(source, node.output, labels))], args, node.attrs
        if op == "[]":
            return [self._indexed(node, source, labels)], args, self._key(node, source, labels)
        if op == "@":
            return self._product(source, args[1], labels), args, node.attrs
        axis = node.kwargs.get("axis")
        if op in REDUCTIONS and axis is not None:
            return [(source, self._unreduced(node, source, labels))], args, node.attrs
        if op in _ALONG and isinstance(axis, int):
            arrays = [v for v in args if isinstance(v, Value)]
            return [(v, self._along(v, axis, labels)) for v in arrays], args, node.attrs
        raise NotLifted(f"{op} is part of it")

    def _along(self, source: Value, axis: int, labels: Labels) -> Labels:
        """Labels of what has the same axes, but for any number of keys along one."""
        some = KEYS if self._has_length(source.shape[axis]) else None
        return (*labels[:axis], some, *labels[axis + 1 :])

    def _unreduced(self, node: Node, source: Value, labels: Labels) -> Labels:
        axis = node.kwargs["axis"]
        lost = [a % source.rank for a in (axis if isinstance(axis, (list, tuple)) else [axis])]
        kept = iter(labels)
        found: list[str | None] = []
        for place, size in enumerate(source.shape):
            label = next(kept) if place not in lost or node.kwargs.get("keepdims") else None
            found.append(KEYS if place in lost and self._has_length(size) else label)
        return tuple(found)

    def _product(self, left: Value, right: Value, labels: Labels) -> list[tuple[Value, Labels]]:
        inner = KEYS if self._has_length(left.shape[-1]) else None
        around = labels[:-2]
        return [
            (left, (*around[len(around) - left.rank + 2 :], labels[-2], inner)),
            (right, (*around[len(around) - right.rank + 2 :], inner, labels[-1])),
        ]

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


def _bounds(attrs: dict[str, Any]) -> list[Any]:
    """The bounds of an index."""
    slices = [part for part in attrs.get("key", ()) if isinstance(part, slice)]
    return [bound for part in slices for bound in (part.start, part.stop, part.step)]


def numbers_in(args: list[Any]) -> Iterator[Any]:
    for item in args:
        if isinstance(item, (list, tuple)):
            yield from numbers_in(list(item))
        elif isinstance(item, sympy.Basic):
            yield simplify(item)
