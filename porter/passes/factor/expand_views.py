"""A reshape in the form of another block's reshape, transpose and reshape.

Windows of a feature map are cut by that chain; where the map is one window, all that is left of it is a reshape. Written out,
it is an instance of the chain again.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from porter.ir import Node, Size, Value
from porter.ir.builder import Builder, simplify
from porter.passes.layout.permutations import reshape_blocks

Chain = tuple[Node, Node, Node]


def chain_to(node: Node, writers: dict[Value, Any]) -> Chain | None:
    """The reshape, transpose and reshape that end in `node`, all of one block."""
    if node.op != ".reshape":
        return None
    turn = writers.get(node.args[0])
    if not isinstance(turn, Node) or turn.op != ".transpose":
        return None
    split = writers.get(turn.args[0])
    return (split, turn, node) if isinstance(split, Node) and split.op == ".reshape" else None


def expanded(chain: Chain, node: Node) -> Chain | None:
    """The reshape `node` as an instance of the chain; None where it is none. The last of the three has no output yet."""
    split, turn, _ = chain
    source, target = node.args[0].shape, node.output.shape
    if len(source) != split.args[0].rank or len(target) != chain[2].output.rank:
        return None
    shape = _middle(split, turn, source)
    if shape is None:
        return None
    builder = Builder(node.scope, node.location)
    middle = builder.op(".reshape", node.args[0], *shape, shape=shape, dtype=node.output.dtype)
    axes = turn.args[1:]
    turned = builder.op(
        ".transpose", middle, *axes, shape=[shape[axis] for axis in axes], dtype=node.output.dtype
    )
    last = Node(".reshape", [turned, *target], scope=node.scope, location=node.location)
    return builder.nodes[0], builder.nodes[1], last


def _middle(split: Node, turn: Node, source: tuple[Size, ...]) -> tuple[Size, ...] | None:
    """The sizes between, as in the chain but for some that are 1, such that the transpose moves nothing."""
    kept = {
        right[0]: left[0]
        for left, right in reshape_blocks(split.args[0].shape, split.output.shape) or []
        if len(left) == len(right) == 1
    }
    choices: list[tuple[Size, ...]] = []
    for axis, size in enumerate(split.output.shape):
        if axis in kept:
            choices.append((source[kept[axis]],))
        else:
            choices.append((size, 1) if isinstance(size, int) and size > 1 else (size,))
    total: Size = 1
    for size in source:
        total = total * size
    found = []
    for shape in product(*choices):
        count: Size = 1
        for size in shape:
            count = count * size
        order = [axis for axis in turn.args[1:] if shape[axis] != 1]
        if simplify(count - total) == 0 and order == sorted(order):
            found.append(shape)
    # Where there are as many windows as a window is long, the inner axes are the window's.
    return max(found, key=lambda shape: _spread(shape), default=None)


def _spread(shape: tuple[Size, ...]) -> tuple[int, int]:
    """How many axes are longer than 1, and how far back they are."""
    long = [axis for axis, size in enumerate(shape) if size != 1]
    return len(long), sum(long)
