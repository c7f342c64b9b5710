"""What is to be written for a decoder's caches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from porter.ir import Frame, Memory, Node, Value
from porter.passes.cache.find_text import Text
from porter.passes.masks import Sight


class NoCache(Exception):
    """Why a decoder's cache can't be lifted."""


@dataclass(slots=True)
class Plan:
    """`holder`: the module calls around every attention; `counts`: positions that are read, and where they start.

    `biases`: what each attention's mask does beside hiding keys; `crossed`: the attentions beside each that look at an
    encoder's output, and `memory` what they see of it.
    """

    text: Text
    attentions: list[Node]
    sights: list[Sight]
    biases: list[Value | None]
    holder: tuple[Frame, ...]
    crossed: list[list[Node]] = field(default_factory=list)
    memory: Memory | None = None
    ropes: dict[Node, int] = field(default_factory=dict)
    counts: dict[Value, int] = field(default_factory=dict)


def new_node(
    op: str, args: list[Any], dtype: str, name: str | None, scope: tuple[Frame, ...], place: Any
) -> Node:
    """A node with one output without axes, at the source line of `place`."""
    node = Node(op, args, scope=scope, location=place.location if place is not None else None)
    node.outputs = [Value((), dtype, node, name)]
    return node
