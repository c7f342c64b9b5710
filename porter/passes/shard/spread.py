"""Where a part of an axis is after a node: what each process computes of its part alone."""

from __future__ import annotations

from porter.ir import Node, Value
from porter.ir.ops import ACTIVATIONS, ELEMENTWISE, LAST_AXIS_LAYERS
from porter.passes.fuse.fuse_attention import ATTENTION
from porter.passes.layout.permutations import reshape_blocks

#: Layers with a weight for each input and output feature.
LINEARS = ("nn.Linear", "nn.SwitchLinear")
#: What a sum over processes may be taken after instead of before: they are linear in their first argument.
_LINEAR_VIEWS = {
    ".reshape", ".transpose", ".squeeze", "mx.expand_dims", "[]", "mx.sum", "mx.mean", ".astype", "unpack",
}  # fmt: skip


class Whole(Exception):
    """Why a node needs the whole axis."""


def spread(node: Node, parts: dict[Value, int]) -> dict[Value, int]:
    """For each output the axis of which a process has its part, where it has one of each input in `parts`.

    An axis is divided in one run of neighbours for each process, heads staying whole. Raises Whole.
    """
    op = node.op
    if op == "update_and_fetch" or op in ATTENTION:
        return _attended(node, parts)
    if op in ELEMENTWISE or op in ACTIVATIONS:
        return _elementwise(node, parts)
    if op == "mx.concatenate":
        return _joined(node, parts)
    source = node.args[0]
    if (
        not isinstance(source, Value)
        or source not in parts
        or any(v in parts for v in node.inputs() if v is not source)
    ):
        raise Whole(f"{op} mixes parts with wholes")
    axis, out = parts[source], node.output
    if op in LAST_AXIS_LAYERS and op not in LINEARS:
        if axis == source.rank - 1:
            raise Whole(f"{op} is over all features")
        return {out: axis}
    if op == "nn.RoPE":
        if axis >= source.rank - 2:
            raise Whole(f"{op} is over all features")
        return {out: axis}
    if op == ".transpose":
        return {out: list(node.args[1:]).index(axis)}
    if op == "mx.expand_dims" and isinstance(node.args[1], int):
        return {out: axis + (axis >= node.args[1] % out.rank)}
    if op == ".reshape":
        return {out: _reshaped(source, out, axis)}
    if op == "mx.split" and node.kwargs.get("axis") not in (axis, axis - source.rank):
        return dict.fromkeys(node.outputs, axis)
    if op == "unpack" and axis:
        return dict.fromkeys(node.outputs, axis - 1)
    if op == "[]":
        return {out: _indexed(node, axis)}
    raise Whole(f"{op} may need all of it")


def _attended(node: Node, parts: dict[Value, int]) -> dict[Value, int]:
    """Heads stand on axis 1, and those of keys and values are divided as the queries' are."""
    count = 2 if node.op == "update_and_fetch" else 3
    for value in node.args[:count]:
        if parts.get(value) != 1:
            raise Whole(f"{node.op} has heads that every process needs")
    mask = node.kwargs.get("mask")
    if isinstance(mask, Value) and mask.rank > 2 and mask.shape[-3] != 1:
        raise Whole("its mask differs by head")
    if isinstance(node.kwargs.get("sinks"), Value):
        raise Whole("its sinks differ by head")
    return dict.fromkeys(node.outputs, 1)


def _elementwise(node: Node, parts: dict[Value, int]) -> dict[Value, int]:
    places = {parts[v] - v.rank for v in node.inputs() if v in parts}
    if len(places) > 1:
        raise Whole(f"{node.op} takes parts of several axes")
    place = places.pop()
    for value in node.inputs():
        if value not in parts and value.rank >= -place and value.shape[place] != 1:
            raise Whole(f"{node.op} takes a whole beside a part")
    return {out: place + out.rank for out in node.outputs}


def _joined(node: Node, parts: dict[Value, int]) -> dict[Value, int]:
    axes = {parts.get(value) for value in node.args[0]}
    axis = axes.pop()
    along = node.kwargs.get("axis", 0) % node.output.rank
    if axes or axis is None or along == axis:
        raise Whole(f"{node.op} joins what is divided with what is not")
    return {node.output: axis}


def _reshaped(source: Value, out: Value, axis: int) -> int:
    """The first axis of those that the divided one becomes, where it is the first of those that are merged."""
    blocks = reshape_blocks(source.shape, out.shape) or []
    for left, right in blocks:
        if axis in left:
            before = [a for a in left if a < axis and source.shape[a] != 1]
            after = [a for a in right if out.shape[a] != 1]
            if not before and after:
                return after[0]
    raise Whole(".reshape mixes what is divided with what is not")


def _indexed(node: Node, axis: int) -> int:
    source, at, place = node.args[0], 0, 0
    for part in node.attrs["key"]:
        if part is None:
            place += 1
            continue
        if not isinstance(part, (slice, int)) or (at == axis and part != slice(None)):
            raise Whole("an index picks among what is divided")
        if at == axis:
            return place
        place += isinstance(part, slice)
        at += 1
    assert at <= axis < source.rank
    return place + axis - at


def keeps_sum(node: Node, partial: set[Value]) -> bool:
    """Whether the node's result, of what each process has a summand of, is again a summand."""
    taken = [v in partial for v in node.inputs()]
    if node.op in ("+", "-"):
        return all(isinstance(a, Value) and a in partial for a in node.args)
    if node.op == "*":
        return taken.count(True) == 1
    if node.op == "/":
        return node.args[0] in partial and taken.count(True) == 1
    return node.op in _LINEAR_VIEWS and node.args[0] in partial and taken.count(True) == 1
