"""What is read of joined arrays is read off the part that holds it: what an author fills piece by piece is joined once."""

from __future__ import annotations

from typing import Any

from porter.ir import Node, Program, Size, Value
from porter.ir.builder import Builder, simplify
from porter.ir.ops import FILLED
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import producer, replace_node
from porter.passes.homes import Homes


def read_parts(program: Program) -> int:
    """`out[:, t] = h` for each t, and reads of what was written: `mx.stack` of what was. Returns how many nodes changed.

    Each write is a concatenation of what stands before it, the new part, and what stands behind it.
    """
    homes = Homes(program)
    count = 0
    for node in list(program.nodes):
        joined = producer(node.args[0], "mx.concatenate") if node.op == "[]" else None
        if _drop_axis(program, node):
            count += 1
        elif joined is not None and homes.home(joined.scope) == homes.home(node.scope):
            count += _read(program, node, joined)
    if count:
        remove_dead(program)
        count += _flatten(program, homes) + sum(_stack(program, n) for n in list(program.nodes))
        remove_dead(program)
    return count


def _read(program: Program, node: Node, joined: Node) -> int:
    """A slice along the axis of a concatenation that ends where parts do, or lies inside one."""
    key, axis = list(node.attrs["key"]), joined.kwargs.get("axis", 0)
    if any(not isinstance(cut, (slice, int)) for cut in key) or not isinstance(axis, int):
        return 0
    axis %= joined.output.rank
    cut = key[axis] if axis < len(key) else slice(None)
    bounds = _bounds(cut, joined.output.shape[axis])
    if bounds is None:
        return 0
    build = Builder(node.scope, node.location)
    found = _within(build, joined.args[0], axis, *bounds)
    if found is None:
        return 0
    part, rest = found
    shape = list(part.shape)
    key = [*key, *[slice(None)] * (axis + 1 - len(key))]
    key[axis] = rest if isinstance(cut, slice) else rest.start or 0
    if any(k != slice(None) for k in key):
        shape = list(node.output.shape)
        part = _piece(build, part, key, shape)
    if build.nodes:
        replace_node(program, node, build.nodes, part)
    elif part.node is None and node.output in program.output_values():
        return 0
    else:
        program.nodes.remove(node)
        program.replace({node.output: part})
    return 1


def _drop_axis(program: Program, node: Node) -> int:
    """`x[:, None][:, 0]` is x."""
    wide = producer(node.args[0], "mx.expand_dims") if node.op == "[]" else None
    if wide is None or not isinstance(wide.args[1], int):
        return 0
    axis, key = wide.args[1] % wide.output.rank, list(node.attrs["key"])
    plain = all(isinstance(cut, (slice, int)) for cut in key) and axis < len(key)
    if not plain or isinstance(key[axis], slice) or node.output in program.output_values():
        return 0
    del key[axis]
    build = Builder(node.scope, node.location)
    if any(cut != slice(None) for cut in key):
        narrow = build.index(wide.args[0], key, node.output.shape)
        replace_node(program, node, build.nodes, narrow)
    else:
        program.nodes.remove(node)
        program.replace({node.output: wide.args[0]})
    return 1


def _bounds(cut: Any, size: Size) -> tuple[Size, Size] | None:
    """Where a slice begins and ends, counted from the front."""
    if isinstance(cut, slice) and cut.step not in (None, 1):
        return None
    ends = (cut.start, cut.stop) if isinstance(cut, slice) else (cut, simplify(cut + 1) or None)
    start, stop = (
        simplify(size + end) if isinstance(end, int) and end < 0 else end for end in ends
    )
    start, stop = 0 if start is None else start, size if stop is None else stop
    known = isinstance(stop, int) and isinstance(size, int)
    return start, min(stop, size) if known else stop


def _within(
    build: Builder, parts: list[Value], axis: int, start: Size, stop: Size
) -> tuple[Value, slice] | None:
    """The part that holds start to stop, or the parts that are just these, joined; and what of it is meant."""
    ends: list[Size] = [0]
    for part in parts:
        ends.append(simplify(ends[-1] + part.shape[axis]))
    for place, part in enumerate(parts):
        before, behind = simplify(start - ends[place]), simplify(ends[place + 1] - stop)
        if all(isinstance(n, int) and n >= 0 for n in (before, behind)):
            length = part.shape[axis]
            end = None if behind == 0 else simplify(length - behind)
            return part, slice(before or None, end)
    first = next((i for i, end in enumerate(ends) if simplify(end - start) == 0), None)
    last = next((i for i, end in enumerate(ends) if simplify(end - stop) == 0), None)
    if first is None or last is None or not 1 < last - first < len(parts):
        return None
    some = parts[first:last]
    shape = tuple(simplify(stop - start) if a == axis else n for a, n in enumerate(some[0].shape))
    whole = build.op("mx.concatenate", some, shape=shape, dtype=some[0].dtype, axis=axis)
    return whole, slice(None)


def _piece(build: Builder, part: Value, key: list[Any], shape: list[Size]) -> Value:
    """A part of an array; of one number everywhere another such array, and of what a new axis of size 1 holds that itself."""
    filled = producer(part, *FILLED)
    if filled is not None:
        return build.node(
            filled.op, tuple(shape), *filled.args[1:], shapes=[tuple(shape)], dtypes=[part.dtype],
            **filled.kwargs,
        ).output  # fmt: skip
    single = [axis for axis, cut in enumerate(key) if cut == 0 and not isinstance(cut, slice)]
    plain = len(single) == 1 and all(cut in (0, slice(None)) for cut in key)
    if plain and (narrow := _narrow(part, single[0])) is not None:
        return narrow
    while key and key[-1] == slice(None):
        key.pop()
    if key and isinstance(key[-1], int) and all(cut == slice(None) for cut in key[:-1]):
        part, key[-1] = _before_cut(part, key[-1], len(key) - 1)
    return build.index(part, key, shape)


def _before_cut(part: Value, place: int, axis: int) -> tuple[Value, int]:
    """The array that a part is a slice of along the axis, and the place in that."""
    cut = producer(part, "[]")
    key = list(cut.attrs["key"]) if cut is not None else []
    if cut is None or len(key) != axis + 1 or any(other != slice(None) for other in key[:-1]):
        return part, place
    start = key[-1].start or 0 if isinstance(key[-1], slice) and key[-1].step is None else None
    if not isinstance(start, int) or start < 0:
        return part, place
    return cut.args[0], place + start


def _narrow(part: Value, axis: int) -> Value | None:
    """The array that got an axis of size 1 there."""
    node = producer(part, "mx.expand_dims", ".reshape")
    if node is None or part.shape[axis] != 1:
        return None
    source: Value = node.args[0]
    return source if source.shape == (*part.shape[:axis], *part.shape[axis + 1 :]) else None


def _flatten(program: Program, homes: Homes) -> int:
    """A concatenation of which nothing but another one along the axis is made is part of that."""
    count = 0
    users = program.users()
    outputs = program.output_values()
    for node in program.nodes:
        if node.op != "mx.concatenate":
            continue
        parts: list[Value] = []
        for part in node.args[0]:
            inner = producer(part, "mx.concatenate")
            alone = inner is not None and len(users[part]) == 1 and part not in outputs
            if (
                inner is not None
                and alone
                and inner.kwargs.get("axis") == node.kwargs.get("axis")
                and homes.home(inner.scope) == homes.home(node.scope)
            ):
                parts += inner.args[0]
                count += 1
            else:
                parts.append(part)
        node.args[0] = parts
    return count


def _stack(program: Program, node: Node) -> int:
    """Arrays that are joined along an axis which each got for it are stacked."""
    if node.op != "mx.concatenate" or not isinstance(node.kwargs.get("axis"), int):
        return 0
    axis = node.kwargs["axis"] % node.output.rank
    wide = [_narrow(part, axis) for part in node.args[0]]
    filled = [part.shape[axis] == 1 and producer(part, *FILLED) for part in node.args[0]]
    if sum(w is not None for w in wide) < 2 or not all(
        w is not None or fill for w, fill in zip(wide, filled, strict=True)
    ):
        return 0
    build = Builder(node.scope, node.location)
    shape = [n for a, n in enumerate(node.output.shape) if a != axis]
    narrow = [
        _piece(build, part, [], shape) if w is None else w
        for w, part in zip(wide, node.args[0], strict=True)
    ]
    out = node.output
    result = build.op("mx.stack", narrow, shape=out.shape, dtype=out.dtype, axis=axis)
    replace_node(program, node, build.nodes, result)
    return 1
