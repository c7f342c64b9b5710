"""Attention whose scores have their axes in another order: `torch.einsum("bshd,bthd->bsht", q, k)`."""

from __future__ import annotations

from porter.ir import Program, Value
from porter.ir.builder import Builder
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import producer, replace_node

#: What may stand between the scores and the values.
_BETWEEN = {"+", "-", "*", "/", "mx.where", "mx.tanh", "mx.maximum", "mx.softmax"}


def turn_scores(program: Program) -> int:
    """Masks and a softmax between two transposes act on the scores as their product gives them. Returns how many.

    The keys are the last axis then, as a product with the values and MLX's attention have it.
    """
    count = 0
    for node in list(program.nodes):
        turned = producer(node.args[0], ".transpose") if node.op == "@" else None
        softmax = producer(turned.args[0], "mx.softmax") if turned is not None else None
        if turned is None or softmax is None:
            continue
        axes = tuple(turned.args[1:])
        if axes.index(softmax.kwargs["axis"] % len(axes)) != len(axes) - 1:
            continue
        builder = Builder(softmax.scope, softmax.location)
        scores = _Turned(program, axes, builder).value(softmax.output)
        if scores is not None:
            replace_node(program, turned, builder.nodes, scores)
            count += 1
    if count:
        remove_dead(program)
    return count


class _Turned:
    """What leads from a product of queries and keys to attention weights, made anew with its axes in `axes`' order."""

    def __init__(self, program: Program, axes: tuple[int, ...], builder: Builder):
        self.users = program.users()
        self.kept = set(program.output_values())
        self.axes, self.builder = axes, builder

    def value(self, value: Value) -> Value | None:
        """The array in the other order; None where something else reads it, or it leads to no product in this order."""
        node = value.node
        if node is None or len(self.users.get(value, [])) != 1 or value in self.kept:
            return None
        if node.op == ".transpose":
            straight = tuple(node.args[1:][axis] for axis in self.axes) == tuple(
                range(len(self.axes))
            )
            return node.args[0] if straight and producer(node.args[0], "@") is not None else None
        if node.op not in _BETWEEN:
            return None
        leading = [a for a in node.args if isinstance(a, Value) and self._leads(a)]
        if len(leading) != 1 or leading[0].shape != value.shape:
            return None
        inner = self.value(leading[0])
        if inner is None:
            return None
        args = [inner if a is leading[0] else self._aside(a) for a in node.args]
        options = dict(node.kwargs)
        if "axis" in options:
            options["axis"] = len(self.axes) - 1
        shape = tuple(value.shape[axis] for axis in self.axes)
        return self.builder.op(node.op, *args, shape=shape, dtype=value.dtype, **options)

    def _leads(self, value: Value, depth: int = 8) -> bool:
        node = value.node
        if node is None or not depth:
            return False
        if node.op == ".transpose":
            return producer(node.args[0], "@") is not None
        return node.op in _BETWEEN and any(self._leads(v, depth - 1) for v in node.inputs())

    def _aside(self, item: object) -> object:
        """A mask or a factor in the other order."""
        if not isinstance(item, Value) or item.rank == 0:
            return item
        rank = len(self.axes)
        wide = self.builder.reshape(item, (1,) * (rank - item.rank) + item.shape)
        return self.builder.transpose(wide, self.axes)
