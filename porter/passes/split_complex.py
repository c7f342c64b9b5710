"""Complex numbers that are made of two real arrays only to be multiplied and taken apart again."""

from __future__ import annotations

from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import commuted, producer, replace_node

Pair = tuple[Value, Value]
_VIEWS = {"mx.expand_dims", ".squeeze", ".reshape", ".transpose", "[]", "mx.broadcast_to"}


def split_complex(program: Program) -> int:
    """`mx.real` and `mx.imag` of a product of complex numbers whose parts are at hand are sums of products of those parts.

    Rotary embeddings are often written so. Returns how many were rewritten.
    """
    count = 0
    for node in list(program.nodes):
        if node.op not in ("mx.real", "mx.imag"):
            continue
        builder = Builder(node.scope, node.location)
        pair = _parts(node.args[0], builder)
        if pair is None:
            continue
        part = pair[node.op == "mx.imag"]
        if part.shape != node.output.shape:
            continue
        if part in [n.output for n in builder.nodes]:
            replace_node(program, node, builder.nodes, part)
        else:
            program.replace({node.output: part})
        count += 1
    if count:
        remove_dead(program)
    return count


def _parts(value: Value, builder: Builder) -> Pair | None:
    """The real and the imaginary part of a complex array that was made of them."""
    node = value.node
    if node is None or not value.dtype.startswith("complex"):
        return None
    if node.op == "+":
        return _sum(node)
    if node.op in _VIEWS:
        inner = _parts(node.args[0], builder)
        return None if inner is None else (_view(node, inner[0], builder), _view(node, inner[1], builder))  # fmt: skip
    if node.op != "*":
        return None
    left, right = (_parts(v, builder) if isinstance(v, Value) else None for v in node.args)
    if left is not None and right is None:
        right = _stored(node.args[1], builder)
    elif right is not None and left is None:
        left = _stored(node.args[0], builder)
    if left is not None and right is not None:
        (a, b), (c, d) = left, right
        real = builder.op("-", builder.op("*", a, c), builder.op("*", b, d))
        return real, builder.op("+", builder.op("*", a, d), builder.op("*", b, c))
    for pair, factor in ((left, node.args[1]), (right, node.args[0])):
        is_real = not isinstance(factor, complex) and not (
            isinstance(factor, Value) and factor.dtype.startswith("complex")
        )
        if pair is not None and is_real:
            return builder.op("*", pair[0], factor), builder.op("*", pair[1], factor)
    return None


def _stored(item: object, builder: Builder) -> Pair | None:
    """The parts of a stored table of complex numbers, or of a view of one."""
    if not isinstance(item, Value) or not item.dtype.startswith("complex"):
        return None
    if item.is_parameter:
        real, imag = (
            builder.op(op, item, shape=item.shape, dtype="float32") for op in ("mx.real", "mx.imag")
        )
        return real, imag
    node = item.node
    inner = _stored(node.args[0], builder) if node is not None and node.op in _VIEWS else None
    if node is None or inner is None:
        return None
    return _view(node, inner[0], builder), _view(node, inner[1], builder)


def _sum(node: Node) -> Pair | None:
    """x and y of x + 1j * y."""
    for real, other in commuted(node):
        turned = producer(other, "*")
        if turned is None or not isinstance(real, Value) or real.dtype.startswith("complex"):
            continue
        for unit, imaginary in commuted(turned):
            if unit == 1j and isinstance(imaginary, Value):
                return real, imaginary
    return None


def _view(node: Node, part: Value, builder: Builder) -> Value:
    return builder.node(
        node.op, part, *node.args[1:], shapes=[node.output.shape], dtypes=[part.dtype],
        attrs=dict(node.attrs), **node.kwargs,
    ).output  # fmt: skip
