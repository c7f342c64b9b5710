"""What can be said of values without running them: fills of one number, and counts 0, 1, 2, ... along an axis."""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from porter.ir import Node, Program, Size, Value, values_in
from porter.ir.builder import Builder, broadcast_shapes, simplify
from porter.ir.ops import FILLED
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import replace_node

_ARITHMETIC: dict[str, Any] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip
_KEEPS_FILL = {
    ".reshape",
    ".transpose",
    "mx.expand_dims",
    ".squeeze",
    "mx.broadcast_to",
    "[]",
    "mx.take_along_axis",
    "mx.take",
    ".astype",
}
#: A layer that is called as often is one of the steps of a loop.
_STEPS = 4


@dataclass(frozen=True, slots=True)
class Count:
    """start, start + 1, ... along `axis` of a tensor whose other sizes are 1 (or, where `spread`, that repeats along them)."""

    axis: int
    start: Size
    length: Size


_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


def simplify_constants(program: Program) -> int:
    """Propagates fills and counts; masks that keep all, adds of 0 and indexing by a count go. Returns how many changed."""
    facts = _Facts(program)
    changed = 0
    for node in list(program.nodes):
        changed += facts.visit(node)
    changed += facts.count_positions()
    if changed:
        remove_dead(program)
    return changed


class _Facts:
    def __init__(self, program: Program):
        self.program = program
        self.fills: dict[Value, Any] = {}
        self.counts: dict[Value, Count] = {}
        #: how many layers each weight serves
        self.served = Counter(v.path for node in program.nodes for v in node.params.values())
        for value in program.parameters.values():
            self._constant(value)

    def _constant(self, value: Value) -> None:
        if value.data is None or value.data.size == 0:
            return
        first = value.data.reshape(-1)[0].item()
        if (value.data == first).all():
            self.fills[value] = first
        axes = [axis for axis, size in enumerate(value.data.shape) if size > 1]
        if len(axes) == 1 and value.dtype.startswith("int"):
            flat = value.data.reshape(-1)
            if (flat == range(int(first), int(first) + len(flat))).all():
                self.counts[value] = Count(axes[0], int(first), len(flat))

    def visit(self, node: Node) -> int:
        if len(node.outputs) != 1:
            return 0
        out = node.output
        mask = (
            node.kwargs.get("mask") if node.op == "mx.fast.scaled_dot_product_attention" else None
        )
        if isinstance(mask, Value) and self.fills.get(mask) is True:
            node.kwargs["mask"] = None  # a mask that keeps all
            return 1
        self._count(node)
        fill = self._fill(node)
        if fill is not None:
            self.fills[out] = fill
            if node.op not in FILLED:
                arrays = list(values_in(node.args)) if node.op in _KEEPS_FILL else []
                if arrays and arrays[0].node is not None:
                    # made where the author made it, not in the module that turns it around
                    node.scope = arrays[0].node.scope
                node.op, node.args, node.kwargs, node.attrs = _creation(fill, out)
                node.params = {}
                return 1
            return 0
        return (
            self._drop_neutral(node)
            or self._write_number(node)
            or self._index_by_counts(node)
            or self._slice_count(node)
        )

    # --- fills

    def _fill(self, node: Node) -> Any:
        """The one number that the node's output holds, or None."""
        if node.op == "mx.zeros":
            return False if node.output.dtype == "bool" else 0
        if node.op == "mx.ones":
            return True if node.output.dtype == "bool" else 1
        if node.op == "mx.full" and isinstance(node.args[1], (int, float)):
            return node.args[1]
        arrays = list(values_in(node.args))
        if node.op in _KEEPS_FILL and arrays and arrays[0] in self.fills:
            value = self.fills[arrays[0]]
            return bool(value) if node.output.dtype == "bool" else value
        if node.op == "@" and any(self.fills.get(a) == 0 for a in arrays):
            return 0  # the state that a recurrence starts with
        if node.op == "nn.Linear" and "bias" not in node.params and self.fills.get(arrays[0]) == 0:
            # the first of many steps does what the others do
            return 0 if self.served[node.params["weight"].path] < _STEPS else None
        if node.op in (">=", "<", ">", "<=") and len(arrays) == 1 and arrays[0] in self.counts:
            return self._compare_count(node, self.counts[arrays[0]])
        if node.op in ("&", "mx.logical_and") and any(self.fills.get(a) is False for a in arrays):
            return False
        if node.op in ("|", "mx.logical_or") and any(self.fills.get(a) is True for a in arrays):
            return True
        if node.op in ("&", "|", "mx.logical_and", "mx.logical_or") and all(
            a in self.fills for a in arrays
        ):
            left, right = (bool(self.fills[a]) for a in node.args)
            return (left and right) if node.op in ("&", "mx.logical_and") else (left or right)
        if (
            node.op in ("mx.logical_not", "~")
            and node.output.dtype == "bool"
            and arrays[0] in self.fills
        ):
            return not self.fills[arrays[0]]
        return self._arithmetic(node) if node.op in _ARITHMETIC else None

    def _arithmetic(self, node: Node) -> Any:
        """One number made of others, in the type that the array of it has."""
        operands = [self.fills.get(a) if isinstance(a, Value) else a for a in node.args]
        if node.output.dtype not in ("float32", "int32", "int64"):
            return None
        if node.output.rank and (sum(isinstance(a, Value) for a in node.args) > 1 or 0 in operands):
            return None  # a loop's first turn, from zeros, does what the others do
        if not all(isinstance(a, (int, float)) and not isinstance(a, bool) for a in operands):
            return None
        dtype = np.dtype(node.output.dtype)
        with np.errstate(all="ignore"):
            result = _ARITHMETIC[node.op](*(dtype.type(a) for a in operands))
        return None if np.isnan(result) else result.astype(dtype).item()

    def _compare_count(self, node: Node, count: Count) -> Any:
        number = node.args[1]
        if (
            node.args[0].__class__ is not Value
            or not isinstance(number, (int, float))
            or not isinstance(count.start, int)
        ):
            return None
        if (node.op == ">=" and count.start >= number) or (node.op == ">" and count.start > number):
            return True
        return None

    def _drop_neutral(self, node: Node) -> int:
        """x & True, x | False, x + 0 and x * 1 are x."""
        if len(node.args) != 2:
            return 0
        neutral = {
            "&": True,
            "mx.logical_and": True,
            "|": False,
            "mx.logical_or": False,
            "^": 0,
            "+": 0,
            "*": 1,
            "-": 0,
            "/": 1,
        }
        if node.op not in neutral:
            return 0
        pairs = [(node.args[0], node.args[1])] + (
            [(node.args[1], node.args[0])] if node.op not in "-/" else []
        )
        for kept, other in pairs:
            value = self.fills.get(other, None) if isinstance(other, Value) else other
            if (
                not isinstance(kept, Value)
                or value is None
                or isinstance(value, complex)
                or value != neutral[node.op]
            ):
                continue
            if kept.dtype != node.output.dtype and node.output.dtype != "float32":
                continue
            self._stand_in(node, kept)
            return 1
        return 0

    def _write_number(self, node: Node) -> int:
        """mx.minimum(x, mx.full(x.shape, 3)) is mx.minimum(x, 3)."""
        asks = node.op in _COMPARISONS
        first = {"mx.minimum": 0, "mx.maximum": 0, "mx.where": 1}.get(node.op, 0 if asks else None)
        if first is None:
            return 0
        for place in range(first, len(node.args)):
            fill = node.args[place]
            others = [a for k, a in enumerate(node.args) if k != place and isinstance(a, Value)]
            typed = [a for k, a in enumerate(node.args) if k not in (place, first - 1)]
            if (
                isinstance(fill, Value)
                and fill in self.fills
                and (asks or fill.dtype == node.output.dtype)
                and fill.dtype != "bool"
                and all(isinstance(a, Value) and a.dtype == fill.dtype for a in typed)
                and broadcast_shapes(*(a.shape for a in others)) == node.output.shape
            ):
                node.args[place] = self.fills[fill]
                return 1
        return 0

    def _stand_in(self, node: Node, kept: Value) -> None:
        """Reads of the node's output read `kept`, widened where its shape is smaller."""
        builder = Builder(node.scope, node.location)
        kept = builder.cast(kept, node.output.dtype)
        if kept.shape != node.output.shape:
            kept = builder.op(
                "mx.broadcast_to",
                kept,
                node.output.shape,
                shape=node.output.shape,
                dtype=kept.dtype,
            )
        if builder.nodes:
            replace_node(self.program, node, builder.nodes, kept)
        else:
            self.program.nodes.remove(node)
            self.program.replace({node.output: kept})
        if node.output in self.counts:
            self.counts[kept] = self.counts[node.output]

    # --- counts

    def _count(self, node: Node) -> None:
        out = node.output
        if node.op == "mx.arange" and len(out.shape) == 1:
            numbers = node.args
            start = numbers[0] if len(numbers) > 1 else 0
            step = numbers[2] if len(numbers) > 2 else 1
            if step == 1 and out.dtype.startswith("int") and not isinstance(start, float):
                self.counts[out] = Count(0, start, out.shape[0])
            return
        source = node.args[0] if node.args and isinstance(node.args[0], Value) else None
        known = self.counts.get(source) if source is not None else None
        if known is None or source is None:
            return
        if node.op == "+" and isinstance(node.args[1], int):
            self.counts[out] = Count(known.axis, simplify(known.start + node.args[1]), known.length)
        elif node.op in (".reshape", "mx.expand_dims", ".squeeze"):
            long = [axis for axis, size in enumerate(out.shape) if size != 1]
            if len(long) == 1 and simplify(out.shape[long[0]] - known.length) == 0:
                self.counts[out] = Count(long[0], known.start, known.length)
            elif not long and node.op == "mx.expand_dims":
                self.counts[out] = Count(0, known.start, 1)
        elif node.op == "[]":
            self._count_of_slice(node, known)
        elif node.op == ".astype" and out.dtype.startswith("int"):
            self.counts[out] = known

    def _count_of_slice(self, node: Node, known: Count) -> None:
        key = node.attrs["key"]
        if any(k is not None and not isinstance(k, slice) for k in key):
            return
        out = node.output
        long = [axis for axis, size in enumerate(out.shape) if size != 1]
        slices = [k for k in key if isinstance(k, slice)]
        start = 0
        if known.axis < len(slices):
            cut = slices[known.axis]
            if cut.step not in (None, 1):
                return
            start = cut.start or 0
            if isinstance(start, int) and start < 0:
                return
        if len(long) == 1:
            self.counts[out] = Count(long[0], simplify(known.start + start), out.shape[long[0]])

    def _slice_count(self, node: Node) -> int:
        """A slice of stored positions becomes an arange."""
        if node.op != "[]" or node.output not in self.counts:
            return 0
        count = self.counts[node.output]
        whole = self.counts.get(node.args[0])
        if not node.args[0].is_parameter and (whole is None or whole.length == count.length):
            return 0
        builder = Builder(node.scope, node.location)
        stop = simplify(count.start + count.length)
        bounds = [stop] if count.start == 0 else [count.start, stop]
        result = _positions(builder, bounds, count, node.output)
        self.counts[result] = Count(0, count.start, count.length)
        key = tuple(slice(None) if axis == count.axis else None for axis in range(node.output.rank))
        if len(key) > 1:
            result = builder.index(result, key, node.output.shape)
            self.counts[result] = count
        replace_node(self.program, node, builder.nodes, result)
        return 1

    def count_positions(self) -> int:
        """Stored positions that are read whole become an arange."""
        changed = 0
        for value, count in list(self.counts.items()):
            if not value.is_parameter:
                continue
            users = [node for node in self.program.nodes if value in node.inputs()]
            if not users:
                continue
            builder = Builder(users[0].scope, users[0].location)
            bounds = (
                [count.length]
                if count.start == 0
                else [count.start, simplify(count.start + count.length)]
            )
            result = _positions(builder, bounds, count, value)
            key = tuple(slice(None) if axis == count.axis else None for axis in range(value.rank))
            if len(key) > 1:
                result = builder.index(result, key, value.shape)
            position = self.program.nodes.index(users[0])
            self.program.nodes[position:position] = builder.nodes
            self.program.replace({value: result})
            changed += 1
        return changed

    def _index_by_counts(self, node: Node) -> int:
        """x[counts along axes of their own] is x with its axes placed: attention_mask[:, None, None, :]."""
        if node.op != "[]":
            return 0
        key, source = node.attrs["key"], node.args[0]
        counts = [self.counts.get(k) if isinstance(k, Value) else None for k in key]
        if not key or len(key) != source.rank or any(c is None or c.start != 0 for c in counts):
            return 0
        found = [c for c in counts if c is not None]
        rank = max(k.rank for k in key)
        axes = [c.axis + rank - k.rank for c, k in zip(found, key, strict=True)]
        full = all(
            simplify(c.length - size) == 0 for c, size in zip(found, source.shape, strict=True)
        )
        if not full or axes != sorted(set(axes)):
            return 0
        if len(axes) == rank:
            self._stand_in(node, source)
        else:
            key = tuple(slice(None) if axis in axes else None for axis in range(rank))
            node.attrs = {"key": key}
        return 1


def _creation(fill: Any, out: Value) -> tuple[str, list[Any], dict[str, Any], dict[str, Any]]:
    shape = tuple(out.shape)
    if fill == 0 or fill == 1:
        return ("mx.zeros" if fill == 0 else "mx.ones"), [shape], {"dtype": out.dtype}, {}
    return "mx.full", [shape, fill], {"dtype": out.dtype}, {}


def _positions(builder: Builder, bounds: list[Size], count: Count, stored: Value) -> Value:
    """An arange in place of stored positions."""
    node = builder.node("mx.arange", *bounds, shapes=[(count.length,)], dtypes=[stored.dtype])
    node.kwargs["dtype"] = stored.dtype
    return node.output
