"""Root-mean-square norms by way of the direction: F.normalize(x) * sqrt(n) is x / sqrt(mean(x^2))."""

from __future__ import annotations

from math import prod
from typing import Any

from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.lowering.axes import channels_first, channels_last
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import is_number, producer, replace_node
from porter.passes.fuse.norm_parts import channel_parameter, is_square, reduced_axis

#: Below this a floor only keeps 0 from being divided by 0, and the term need not be told by the width.
_TINY = 1e-8


def fuse_scaled_directions(program: Program) -> int:
    """weight * sqrt(n) * x / max(|x|, eps) over n features becomes nn.RMSNorm. Returns how many were found.

    The floor of the length becomes a term under the root, which differs from it where x is all but zero only.
    """
    count = 0
    for node in reversed(list(program.nodes)):  # a norm's last product before those within it
        if node.op != "*" or node not in program.nodes:
            continue
        found = _scaled_direction(program, node)
        if found is None:
            continue
        x, axis, eps, weight = found
        builder = Builder(node.scope, node.location)
        replace_node(program, node, builder.nodes, _norm(builder, x, axis, eps, weight))
        remove_dead(program)
        count += 1
    return count


def _scaled_direction(
    program: Program, node: Node
) -> tuple[Value, int, float, Value | None] | None:
    """(x, axis, eps, weight) of a product that is an RMS norm; the weight is None where it has none."""
    factors = _factors(program, node)
    arrays = [factor for factor in factors if isinstance(factor, Value)]
    directions = [(a, found) for a in arrays if (found := _direction(a)) is not None]
    if len(directions) != 1 or len(arrays) > 2:
        return None
    direction, (x, axis, floor) = directions[0]
    size = x.shape[axis]
    if axis not in (x.rank - 1, 1) or not isinstance(size, int) or x.dtype != node.output.dtype:
        return None
    numbers = [factor for factor in factors if not isinstance(factor, Value)]
    if not all(map(is_number, numbers)) or not is_number(prod(numbers) / size**0.5, 1.0):
        return None
    weight = next((a for a in arrays if a is not direction), None)
    if weight is not None:
        own = channel_parameter(weight, x, axis)
        if own is None and not (axis == x.rank - 1 and weight.shape == (size,)):
            return None
        weight = weight if own is None else own
    return x, axis, floor**2 / (size if floor > _TINY else 1), weight


def _factors(program: Program, node: Node) -> list[Any]:
    """What is multiplied, through products that nothing else reads."""
    found: list[Any] = []
    for side in node.args:
        inner = producer(side, "*")
        alone = inner is not None and len(program.users().get(side, [])) == 1
        found += _factors(program, inner) if inner is not None and alone else [side]
    return found


def _direction(value: Value) -> tuple[Value, int, float] | None:
    """(x, axis, eps) of x / max(|x|, eps), the length over one axis."""
    quotient = producer(value, "/")
    if quotient is None:
        return None
    x, length = quotient.args
    while (wide := producer(length, "mx.broadcast_to")) is not None:
        length = wide.args[0]
    floored = producer(length, "mx.maximum")
    if floored is None or not is_number(floored.args[1]) or not isinstance(x, Value):
        return None
    root = producer(floored.args[0], "mx.sqrt")
    total = producer(root.args[0], "mx.sum") if root is not None else None
    axis = reduced_axis(total) if total is not None else None
    if total is None or axis is None or not is_square(total.args[0], x):
        return None
    return x, axis, float(floored.args[1])


def _norm(builder: Builder, x: Value, axis: int, eps: float, weight: Value | None) -> Value:
    first = axis != x.rank - 1
    last = builder.transpose(x, channels_last(x.rank)) if first else x
    if weight is not None and weight.is_parameter:
        attrs = {"dims": last.shape[-1], "eps": eps}
        result = builder.layer("nn.RMSNorm", last, {"weight": weight}, last.shape, **attrs)
    else:
        result = builder.op("mx.fast.rms_norm", last, weight, eps, shape=last.shape, dtype=x.dtype)
    if first:
        result = builder.transpose(result, channels_first(x.rank))
    for node in builder.nodes:
        node.layout = node.op == ".transpose"
    return result
