"""Axes of size 1 in front, which MLX's broadcasting puts there by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.ir.ops import ELEMENTWISE
from porter.passes.cleanup import remove_dead
from porter.passes.homes import Homes

_VIEWS = (".reshape", "mx.expand_dims")


def drop_leading_ones(program: Program) -> int:
    """`x.reshape(1, 1, 1, L) <= x.reshape(1, 1, L, 1)` beside a mask (B, 1, 1, L) is x <= x[:, None]. Returns how many went.

    An operand made of rows of numbers has no leading axes where another operand has as many axes as the result.
    """
    count = 0
    while went := _drop(program):
        count += went
    if count:
        remove_dead(program)
    return count


def _drop(program: Program) -> int:
    home, users = Homes(program).home, program.users()
    shared = {value for value, nodes in users.items() if len(nodes) > 1} | {
        *program.output_values()
    }
    nodes: list[Node] = []
    count = 0
    for node in program.nodes:
        before: list[Node] = []
        for value in _arrays(node) if node.op in ELEMENTWISE and not node.kwargs else []:
            ones = _leading_ones(value)
            beside = [other for other in _arrays(node) if other is not value]
            if not ones or all(other.rank < node.output.rank for other in beside):
                continue
            if _is_free(value, ones, partial(_is_near, home, node), shared):
                short = _without(value, ones, before)
                node.args = [short if item is value else item for item in node.args]
                count += 1
        nodes += [*before, node]
    program.nodes = nodes
    return count


def _is_near(home: Callable[[Any], Any], node: Node, other: Node) -> bool:
    return bool(home(node.scope) == home(other.scope))


def _arrays(node: Node) -> list[Value]:
    return [item for item in node.args if isinstance(item, Value)]


def _leading_ones(value: Value) -> int:
    sizes = value.shape[:-1]
    return next((i for i, size in enumerate(sizes) if size != 1), len(sizes))


def _is_free(value: Value, ones: int, is_near: Callable[[Node], bool], shared: set[Value]) -> bool:
    """Whether the value can be made without its first axes, in the place where it is read."""
    node = value.node
    if node is None or not is_near(node):
        return False
    if node.op in _VIEWS:
        return bool(node.args[0].rank == 1)  # a bias [None, ...] is one, with a mask or without
    if node.op not in ELEMENTWISE or node.kwargs or value in shared:
        return False
    return all(
        _is_free(v, ones - (value.rank - v.rank), is_near, shared)
        for v in _arrays(node)
        if v.rank > value.rank - ones
    )


def _without(value: Value, ones: int, nodes: list[Node]) -> Value:
    """The value without its first axes, which are made by the nodes that are added to `nodes`."""
    node: Any = value.node
    build, shape = Builder(node.scope, node.location), value.shape[ones:]
    if node.op in _VIEWS:
        short = _viewed(build, node.args[0], shape)
    else:
        args = [
            _without(item, ones - (value.rank - item.rank), nodes)
            if isinstance(item, Value) and item.rank > value.rank - ones
            else item
            for item in node.args
        ]
        short = build.op(node.op, *args, shape=shape, dtype=value.dtype)
    nodes += build.nodes
    if short.name is None:
        short.name = value.name
    return short


def _viewed(build: Builder, x: Value, shape: tuple[Any, ...]) -> Value:
    """`x` in a shape that it has but for axes of size 1, by the shortest way."""
    if x.shape == shape:
        return x
    if 1 not in x.shape and x.shape == tuple(size for size in shape if size != 1):
        axes = tuple(i for i, size in enumerate(shape) if size == 1)
        return build.op("mx.expand_dims", x, axes[0] if len(axes) == 1 else axes, shape=shape, dtype=x.dtype)  # fmt: skip
    return build.reshape(x, shape)
