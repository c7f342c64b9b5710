"""Rotations by tables that are no positions of a text: of image rows and columns, of frames, of angles that a model learns."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from porter.functions.rotation import rotate
from porter.ir import Node, Program, Value
from porter.ir.evaluate import Unknown
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.fuse_rope import MOVES
from porter.passes.fuse.match import commuted, producer
from porter.passes.positions import as_array, at_length, long_enough

_LENGTH = 4  # positions that a candidate is run on


def fuse_rotations(program: Program) -> int:
    """x * cos + turned * sin becomes one function, where `turned` is x with its features swapped in pairs.

    What moves x's features is run on random ones, so that halves may be cut, split or picked. Returns how many.
    """
    count = 0
    for node in program.nodes:
        if node.op != "+" or not (found := _rotation(program, node)):
            continue
        args, traditional = found
        node.op, node.args = "fn.rotate", list(args)
        node.kwargs = {"traditional": True} if traditional else {}
        count += 1
    if count:
        remove_dead(program)
    return count


def _rotation(program: Program, node: Node) -> tuple[tuple[Value, Value, Value], bool] | None:
    """x, the cosines and the sines of the rotation that a sum is, and whether neighbours are its pairs."""
    for one, other in commuted(node):
        first, second = producer(one, "*"), producer(other, "*")
        if first is None or second is None:
            continue
        for x, cos in commuted(first):
            for turned, sin in commuted(second):
                arrays = all(isinstance(value, Value) for value in (x, cos, turned, sin))
                if not arrays or not x.shape == turned.shape == node.output.shape:
                    continue
                if turned is x or x is cos or not _is_moved(turned, x):
                    continue
                traditional = _pairs(program, x, turned)
                if traditional is not None:
                    return (x, cos, sin), traditional
    return None


def _is_moved(turned: Value, x: Value) -> bool:
    """Whether an array is made by moving the features of x alone."""
    stack, steps = [turned], 0
    while stack:
        value = stack.pop()
        steps += 1
        if value is x:
            continue
        if value.node is None or value.node.op not in MOVES or steps > 16:
            return False
        stack += list(value.node.inputs())
    return True


def _pairs(program: Program, x: Value, turned: Value) -> bool | None:
    """Whether the pairs are neighbours; None where the features are moved in another way."""
    width = x.shape[-1]
    if not isinstance(width, int) or width % 2:
        return None
    sizes = x.shape[:-1]
    try:  # a size may depend on the data
        length = max((long_enough(program, size, _LENGTH) for size in sizes), default=_LENGTH)
        probe = at_length(program, length)
        shape = tuple(probe.size(size) for size in x.shape)
        values = mx.random.normal(shape, key=mx.random.key(0))
        found = as_array(at_length(program, length, {x: values})(turned))
    except (Unknown, ValueError, RuntimeError):
        return None
    for traditional in (False, True):
        if np.array_equal(
            found, as_array(rotate(values, mx.array(0.0), mx.array(1.0), traditional))
        ):
            return traditional
    return None
