"""Reshapes of reshapes, and expands that MLX's broadcasting makes needless."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from porter.ir import Node, Program, Value, values_in
from porter.ir.builder import Builder, broadcast_shapes
from porter.ir.ops import ACTIVATIONS, ALONG_AXIS, ELEMENTWISE, LAST_AXIS_LAYERS, REDUCTIONS
from porter.passes.fuse.match import producer, replace_node
from porter.passes.homes import Homes

#: What gives an array another shape and leaves its elements in their order.
_VIEWS = (".reshape", ".squeeze", "mx.expand_dims")


def drop_undone(program: Program) -> int:
    """A view that gives an array the shape back that another took from it is that array. Returns how many went."""
    home = Homes(program).home
    mapping: dict[Value, Value] = {}
    for node in program.nodes:
        node.replace_inputs(lambda value: mapping.get(value, value))
        before: Node | None = node
        while before is not None and _is_view(before) and home(before.scope) == home(node.scope):
            source = before.args[0]
            if source.shape == node.output.shape:
                mapping[node.output] = source
                break
            before = source.node
    program.nodes = [node for node in program.nodes if node.outputs[0] not in mapping]
    program.replace(mapping)
    return len(mapping)


def _is_view(node: Node) -> bool:
    """Whether the elements stay in their order: a reshape, or a part that is all there is."""
    if node.op != "[]":
        return node.op in _VIEWS
    whole = all(isinstance(k, slice) and k.step in (None, 1) for k in node.attrs["key"])
    return whole and node.output.shape == node.args[0].shape


def merge_reshapes(program: Program) -> int:
    """A reshape reads what the reshape before it in its class read. Returns how many were shortened."""
    count = drop_undone(program)
    home = Homes(program).home
    for node in program.nodes:
        if node.op != ".reshape":
            continue
        source = node.args[0].node
        while (
            source is not None
            and source.op == ".reshape"
            and home(source.scope) == home(node.scope)
        ):
            node.args[0] = source.args[0]
            source = node.args[0].node
            count += 1
        count += _pick_first(node, home)
    return count


def _pick_first(node: Node, home: Callable[[Any], Any]) -> bool:
    """A row that is picked between two reshapes, of axes of size 1 that come and go, is picked without them."""
    pick = node.args[0].node
    if pick is None or pick.op != "[]" or home(pick.scope) != home(node.scope):
        return False
    first, *rest = pick.attrs["key"]
    wide = pick.args[0].node
    if not isinstance(first, int) or any(key != slice(None) for key in rest):
        return False
    if wide is None or wide.op != ".reshape" or home(wide.scope) != home(node.scope):
        return False
    source = wide.args[0]
    with_ones = [size for size in wide.output.shape[1:] if size != 1]
    if source.shape[0] != wide.output.shape[0] or with_ones != list(source.shape[1:]):
        return False
    if node.output.shape != source.shape[1:]:
        return False
    node.op, node.args, node.attrs = "[]", [source], {"key": (first,)}
    return True


def keep_rows(program: Program) -> int:
    """What acts on each row needs no leading axes merged: a reshape to rows moves behind it. Returns how many moved.

    Authors merge (batch, length, width) to (rows, width) for a product and split the result again.
    """
    count = 0
    nodes: list[Node] = []
    for node in program.nodes:
        nodes.append(node)
        merged = _merged_operands(node)
        if not merged:
            continue
        lead = next(iter(merged.values())).shape[:-1]
        if node.kwargs.get("axis") is not None:
            node.kwargs["axis"] = len(lead)
        if node.op == "[]":
            node.attrs = {"key": (*(slice(None),) * len(lead), node.attrs["key"][1])}
        old = node.output
        node.replace_inputs(partial(_looked_up, merged))
        wide = Value((*lead, *old.shape[1:]), old.dtype, node, old.name)
        node.outputs = [wide]
        back = Node(".reshape", [wide, *old.shape], scope=node.scope, location=node.location)
        back.outputs, old.node = [old], back
        nodes.append(back)
        count += 1
    program.nodes = nodes
    return count


def _looked_up(table: dict[Value, Value], value: Value) -> Value:
    return table.get(value, value)


def _merged_operands(node: Node) -> dict[Value, Value]:
    """The operands that hold rows, with what they were merged from; empty where any other stands beside them."""
    rowwise = node.op in LAST_AXIS_LAYERS or node.op in ACTIVATIONS or node.op in ELEMENTWISE
    along = (
        node.op in ALONG_AXIS | REDUCTIONS | {"mx.take_along_axis", "mx.put_along_axis"}
        and node.kwargs.get("axis") == 1
    )
    key = node.attrs.get("key", ())
    part = node.op == "[]" and len(key) == 2 and key[0] == slice(None) and isinstance(key[1], slice)
    if not (rowwise or along or part) or len(node.outputs) != 1 or node.output.rank != 2:
        return {}
    merged: dict[Value, Value] = {}
    for value in values_in([node.args, node.kwargs]):
        if value.rank <= 1:
            continue
        source = (
            value.node.args[0] if value.node is not None and value.node.op == ".reshape" else None
        )
        if source is None or source.rank < 3 or value.rank != 2:
            return {}
        if source.shape[-1] != value.shape[-1]:
            return {}
        merged[value] = source
    same = len({source.shape[:-1] for source in merged.values()}) == 1
    return merged if same else {}


def drop_broadcasts(program: Program) -> int:
    """An expand, or a copy of what has size 1, goes where every reader broadcasts to the same shape. Returns how many went."""
    count = 0
    for node in program.nodes:
        if (narrow := _cut_again(node)) is not None:
            node.op, node.args, node.attrs = "mx.broadcast_to", [narrow, node.output.shape], {}
            count += 1
    for node in list(program.nodes):
        count += _expand_later(program, node)
    for node in list(program.nodes):
        if not _is_expand(node) or node.output in program.output_values():
            continue
        narrow, wide = node.args[0], node.output
        users = program.users().get(wide, [])
        if not users:
            continue
        fits = True
        for user in users:
            if user.op == "mx.fast.scaled_dot_product_attention":
                fits &= (
                    user.kwargs.get("mask") is wide
                    and wide not in user.args
                    and narrow.rank == wide.rank
                )
            elif user.op in ELEMENTWISE:
                others = [narrow if value is wide else value for value in user.inputs()]
                fits &= broadcast_shapes(*(value.shape for value in others)) == user.output.shape
            elif user.op == "[]" and user.args[0] is not wide:
                indices = values_in(user.attrs["key"])
                others = [narrow if value is wide else value for value in indices]
                shapes = [broadcast_shapes(*(v.shape for v in vs)) for vs in (indices, others)]
                fits &= shapes[0] == shapes[1]
            else:
                fits &= user.op == "mx.broadcast_to"
        if fits:
            for user in users:
                user.replace_inputs(partial(_swapped, wide, narrow))
            program.nodes.remove(node)
            count += 1
    return count


def _expand_later(program: Program, node: Node) -> int:
    """Whether what was done to an expanded array and numbers is done before: `1 - rho.expand(n, -1)`."""
    operands = [*node.inputs()]
    expand = producer(operands[0], "mx.broadcast_to") if operands else None
    if node.op not in ELEMENTWISE or expand is None or len({*operands}) > 1:
        return 0
    wide, narrow = operands[0], expand.args[0]
    if node.output in program.output_values() or node.output.shape != wide.shape:
        return 0
    build = Builder(node.scope, node.location)
    args = [narrow if value is wide else value for value in node.args]
    inner = build.op(node.op, *args, shape=narrow.shape, dtype=node.output.dtype, **node.kwargs)
    result = build.op("mx.broadcast_to", inner, wide.shape, shape=wide.shape, dtype=inner.dtype)
    replace_node(program, node, build.nodes, result)
    return 1


def _cut_again(node: Node) -> Value | None:
    """What was expanded, where this is a part of that along the new axes alone."""
    wide = node.args[0] if node.op == "[]" else None
    if not isinstance(wide, Value) or wide.node is None or wide.node.op != "mx.broadcast_to":
        return None
    narrow: Value = wide.node.args[0]
    key = node.attrs["key"]
    sizes = (1,) * (wide.rank - narrow.rank) + narrow.shape
    cut = [
        size
        for part, size in zip(key, sizes, strict=False)
        if not isinstance(part, slice) or part != slice(None)
    ]
    slices = all(isinstance(part, slice) for part in key)
    return narrow if slices and all(size == 1 for size in cut) else None


def _is_expand(node: Node) -> bool:
    if node.op != "mx.tile":
        return node.op == "mx.broadcast_to"
    sizes, times = node.args[0].shape, node.args[1]
    return len(sizes) == len(times) and all(
        n == 1 or size == 1 for size, n in zip(sizes, times, strict=True)
    )


def _swapped(old: Value, new: Value, value: Value) -> Value:
    return new if value is old else value


def drop_kept_dims(program: Program) -> int:
    """A reduction that keeps its axes only for a reshape to remove them doesn't keep them. Returns how many changed."""
    users = program.users()
    mapping: dict[Value, Value] = {}
    for node in program.nodes:
        chain: list[Node] = []
        source = node.args[0].node if node.op in (".reshape", ".squeeze") else None
        while (
            source is not None
            and _is_alone(source, users, program)
            and (source.op in ACTIVATIONS or source.op in LAST_AXIS_LAYERS)
        ):
            chain.append(source)
            source = source.args[0].node
        if source is None or source.op not in REDUCTIONS or not source.kwargs.get("keepdims"):
            continue
        axis = source.kwargs.get("axis")
        axes = (
            {a % source.output.rank for a in (axis if isinstance(axis, (tuple, list)) else [axis])}
            if axis is not None
            else set()
        )
        last = node.args[0]
        left = tuple(size for a, size in enumerate(last.shape) if a not in axes)
        if (
            not axes
            or node.output.shape != left
            or not _is_alone(source, users, program)
            or last.rank - 1 in axes
        ):
            continue
        del source.kwargs["keepdims"]
        for link in [source, *chain]:
            link.output.shape = tuple(
                size for a, size in enumerate(link.output.shape) if a not in axes
            )
            link.output.origin = link.output.permute = None
        last.origin, last.permute = node.output.origin, node.output.permute
        mapping[node.output] = last
    program.nodes = [node for node in program.nodes if node.outputs[0] not in mapping]
    program.replace(mapping)
    return len(mapping)


def _is_alone(node: Node, users: dict[Value, list[Node]], program: Program) -> bool:
    return len(users.get(node.output, [])) == 1 and node.output not in program.output_values()
