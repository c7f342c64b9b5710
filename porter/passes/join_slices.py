"""A slice of a slice is one, and slices that are put together again are what they were cut of."""

from __future__ import annotations

from typing import Any

from porter.ir import Node, Program, Size, Value
from porter.ir.builder import Builder, simplify
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import producer, replace_node
from porter.passes.homes import Homes


def join_slices(program: Program) -> int:
    """`x[:, :3][:, 0]` is `x[:, 0]`, and `x[:, 0][:, None]` is `x[:, :1]`. Returns how many nodes changed.

    Only what nothing else reads goes: a slice that the author has a use for keeps its name.
    """
    homes, users = Homes(program), program.users()
    outputs = program.output_values()
    count = 0
    for node in list(program.nodes):
        if node.op == "mx.concatenate" and node.output not in outputs:
            count += _rejoin(program, node)
        if node.op not in ("[]", "mx.expand_dims"):
            continue
        inner = producer(node.args[0], "[]")
        if inner is None or len(users.get(inner.output, [])) > 1 or inner.output in outputs:
            continue
        if homes.home(inner.scope) != homes.home(node.scope):
            continue
        key = _joined(inner, node) if node.op == "[]" else _kept(inner, node)
        if key is None:
            continue
        build = Builder(node.scope, node.location)
        narrow = build.index(inner.args[0], key, node.output.shape)
        replace_node(program, node, build.nodes, narrow)
        users[narrow] = users.get(node.output, [])
        count += 1
    if count:
        remove_dead(program)
    return count


def _rejoin(program: Program, node: Node) -> int:
    """Whether a concatenation was all parts of one array in their order; it is that array then."""
    axis = node.kwargs.get("axis", 0) % node.output.rank
    whole: Value | None = None
    reached: Size = 0
    for part in node.args[0]:
        cut = producer(part, "[]")
        key = _plain(cut) if cut is not None else None
        if cut is None or key is None or part.rank != cut.args[0].rank:
            return 0
        if any(k != slice(None) for a, k in enumerate(key) if a != axis):
            return 0
        start = key[axis].start or 0
        if whole not in (None, cut.args[0]) or simplify(start - reached) != 0:
            return 0
        whole, reached = cut.args[0], simplify(reached + part.shape[axis])
    if whole is None or simplify(reached - whole.shape[axis]) != 0:
        return 0
    program.nodes.remove(node)
    program.replace({node.output: whole})
    return 1


def _joined(inner: Node, outer: Node) -> list[Any] | None:
    """The key that does what two do one after the other."""
    first, second = _plain(inner), _plain(outer)
    if first is None or second is None:
        return None
    left = [axis for axis, cut in enumerate(first) if isinstance(cut, slice)]
    for axis, size, cut in zip(left, inner.output.shape, second, strict=True):
        joined = _after(first[axis], cut, size)
        if joined is None:
            return None
        first[axis] = joined
    return first


def _kept(inner: Node, outer: Node) -> list[Any] | None:
    """The key that leaves an axis of size 1 where one place was picked and an axis is put in.

    None where the axis was put in before: it goes and comes back, and `read_parts` sees that.
    """
    key, axis = _plain(inner), outer.args[1]
    if key is None or not isinstance(axis, int) or producer(inner.args[0], "mx.expand_dims"):
        return None
    axis %= outer.output.rank
    picked = [a for a, cut in enumerate(key) if not isinstance(cut, slice)]
    place = next((a for a in picked if a - sum(p < a for p in picked) == axis), None)
    if place is None:
        return None
    key[place] = slice(key[place], key[place] + 1 or None)
    return key


def _plain(node: Node) -> list[Any] | None:
    """What each axis is indexed by, where that is a number or a slice with step 1."""
    key = [*node.attrs["key"]]
    key += [slice(None)] * (node.args[0].rank - len(key))
    if len(key) != node.args[0].rank:
        return None
    for cut in key:
        known = isinstance(cut, slice) and cut.step in (None, 1)
        if not known and (not isinstance(cut, int) or isinstance(cut, bool)):
            return None
    return key


def _after(first: slice, second: Any, size: Size) -> Any:
    """A cut of what a slice left, of so many places; None where that depends on sizes."""
    if first == slice(None):
        return second
    if second == slice(None):
        return first
    start, stop = first.start or 0, first.stop
    ends = [second] if isinstance(second, int) else [second.start, second.stop]
    if not all(isinstance(end, (int, type(None))) for end in (start, *ends)) or start < 0:
        return None
    if any(end is not None and end < 0 for end in ends):
        return None
    if isinstance(second, int):
        return start + second
    if second.stop is None:
        return slice(start + (second.start or 0) or None, stop)
    if stop is not None and not (isinstance(size, int) and second.stop <= size):
        return None
    return slice(start + (second.start or 0) or None, start + second.stop)
