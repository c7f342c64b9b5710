"""What is to be written for a decoder's caches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from porter.ir import Frame, Memory, Node, Value
from porter.passes.cache.find_text import Text
from porter.passes.cache.kinds import Kind
from porter.passes.masks import Sight


class NoCache(Exception):
    """Why a decoder's cache can't be lifted."""


class NotLifted(Exception):
    """Why an array of pairs of tokens can't be computed for the keys of a cache."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn through a list of layers that the module called in `frame` has: its caches are `start` to `stop` of all."""

    frame: Frame
    start: int
    stop: int


@dataclass(slots=True)
class Plan:
    """`holder`: the module calls around every attention; `counts`: positions that are read, and where they start.

    `biases`: what each attention's mask does beside hiding keys, and `own` and `fetched`, by the first attention that has it,
    the features of queries and of keys that it is made of; `crossed`: the attentions beside each that look at an encoder's
    output, and `memory` what they see of it; `states`: the functions that carry a state; `kinds`: what each cache is, by the
    words `words`; `turns`: of each attention in a list below the holder the turn through that list; `places`: which cache
    an attention or a state has, and which part of one with parts, and `kept` what `fetched` has; `guards`: what asks of an
    attention's mask whether a query sees anything; `passing`: what leaves an array as it is, but for padding tokens, of which
    it makes nothing, and that array; `wider`: of each attention the mask of a call that has pictures, if it shows more,
    and `pictures` the name of that input.
    """

    text: Text
    attentions: list[Node]
    sights: list[Sight]
    biases: list[Value | None]
    holder: tuple[Frame, ...]
    states: list[Node] = field(default_factory=list)
    own: dict[Node, list[Value]] = field(default_factory=dict)
    fetched: dict[Node, list[Value]] = field(default_factory=dict)
    crossed: list[list[Node]] = field(default_factory=list)
    memory: Memory | None = None
    kinds: list[Kind] = field(default_factory=list)
    words: tuple[str, ...] = ()
    turns: dict[Node, Turn] = field(default_factory=dict)
    places: dict[Node, tuple[int, int | None]] = field(default_factory=dict)
    kept: dict[Value, tuple[int, int]] = field(default_factory=dict)
    guards: dict[Node, int] = field(default_factory=dict)
    passing: dict[Node, Value] = field(default_factory=dict)
    wider: list[Value | None] = field(default_factory=list)
    pictures: str | None = None
    ropes: dict[Node, int] = field(default_factory=dict)
    counts: dict[Value, int] = field(default_factory=dict)


def new_node(
    op: str, args: list[Any], dtype: str, name: str | None, scope: tuple[Frame, ...], place: Any
) -> Node:
    """A node with one output without axes, at the source line of `place`."""
    node = Node(op, args, scope=scope, location=place.location if place is not None else None)
    node.outputs = [Value((), dtype, node, name)]
    return node


def new_slice(caches: Value, turn: Turn, scope: tuple[Frame, ...]) -> Node:
    """The caches of one turn through a list of layers."""
    node = new_node("caches[:]", [caches], "caches", "cache", scope, None)
    node.attrs = {"start": turn.start, "stop": turn.stop}
    return node


def new_item(caches: Value, index: int, kind: str, scope: tuple[Frame, ...]) -> Node:
    """A layer's cache of the list of caches, or a part of a layer's cache."""
    node = new_node("cache[]", [caches], kind, "cache", scope, None)
    node.attrs = {"index": index}
    return node
