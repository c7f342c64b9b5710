"""A reshape in the form of another block's reshapes and transpose.

Windows of a feature map are cut by reshape, transpose and reshape; where the map is one window, all that is left of it is a
reshape. Heads are split by reshape and transpose; where there is one head, nothing moves, and a reshape is left. Written out,
it is an instance of the chain again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, product
from math import prod
from typing import Any

from porter.ir import Node, Size, Value
from porter.ir.builder import Builder, simplify
from porter.passes.layout.permutations import reshape_blocks

#: A transpose with the reshape before it, after it, or both.
Chain = tuple[Node, ...]


def chain_to(node: Any, writers: dict[Value, Any]) -> Chain:
    """The reshape, transpose and reshape that end in `node`, all of one block, or two of these; else nothing."""
    if not isinstance(node, Node) or node.op not in (".reshape", ".transpose"):
        return ()
    turn = node if node.op == ".transpose" else writers.get(node.args[0])
    if not isinstance(turn, Node) or turn.op != ".transpose":
        return ()
    split = writers.get(turn.args[0])
    before = (split,) if isinstance(split, Node) and split.op == ".reshape" else ()
    chain = (*before, turn) if node is turn else (*before, turn, node)
    return chain if len(chain) > 1 else ()


#: Views that are reshapes: where there is one head, `x[:, None]` is.
RESHAPES = (".reshape", "mx.expand_dims", ".squeeze")


def expanded(chain: Chain, node: Node) -> Chain:
    """The reshape `node` as an instance of the chain, or nothing where it is none. The last of it has no output yet."""
    source, target = node.args[0].shape, node.output.shape
    if len(source) != chain[0].args[0].rank or len(target) != chain[-1].output.rank:
        return ()
    turn = next(part for part in chain if part.op == ".transpose")
    axes: Sequence[int] = turn.args[1:]
    shape: Sequence[Size] | None = source
    if turn is chain[-1]:
        shape = [target[axes.index(axis)] for axis in range(len(axes))]
    elif turn is not chain[0]:
        shape = _middle(chain[0], turn, source)
    if shape is None or not _moves_nothing(shape, axes):
        return ()
    builder = Builder(node.scope, node.location)
    value, dtype = node.args[0], node.output.dtype
    if turn is not chain[0]:
        value = builder.op(".reshape", value, *shape, shape=shape, dtype=dtype)
    turned = [shape[axis] for axis in axes]
    value = builder.op(".transpose", value, *axes, shape=turned, dtype=dtype)
    if turn is not chain[-1]:
        builder.op(".reshape", value, *target, shape=target, dtype=dtype)
    builder.nodes[-1].outputs = []
    return tuple(builder.nodes)


def _moves_nothing(shape: Sequence[Size], axes: Sequence[int]) -> bool:
    """Whether all axes but those of size 1 stay in their order."""
    order = [axis for axis in axes if shape[axis] != 1]
    return order == sorted(order)


def _middle(split: Node, turn: Node, source: tuple[Size, ...]) -> tuple[Size, ...] | None:
    """The sizes between, as in the chain but for some that are 1, such that the transpose moves nothing."""
    blocks = reshape_blocks(split.args[0].shape, split.output.shape)
    if blocks is None or len(source) != split.args[0].rank:
        return None
    choices = [
        [
            sizes
            for sizes in product(*(_or_one(split.output.shape[axis]) for axis in right))
            if simplify(prod(sizes) - prod(source[axis] for axis in left)) == 0
        ]
        if len(left) != len(right) or len(left) > 1
        else [(source[left[0]],)]
        for left, right in blocks
    ]
    shapes = [tuple(chain.from_iterable(parts)) for parts in product(*choices)]
    found = [shape for shape in shapes if _moves_nothing(shape, turn.args[1:])]
    # Where there are as many windows as a window is long, the inner axes are the window's.
    return max(found, key=lambda shape: _spread(shape), default=None)


def _or_one(size: Size) -> tuple[Size, ...]:
    return (size, 1) if isinstance(size, int) and size > 1 else (size,)


def _spread(shape: tuple[Size, ...]) -> tuple[int, int]:
    """How many axes are longer than 1, and how far back they are."""
    long = [axis for axis, size in enumerate(shape) if size != 1]
    return len(long), sum(long)
