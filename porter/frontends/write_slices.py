"""`x[2:, :-3] = 0` of a new array as one op, `porter.set_slices`.

torch's own functional form of it is a slice and a scatter for every axis, and making it traces the whole graph again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram

_END = 2**63 - 1
_ARGUMENTS = "int[] axes, SymInt[] starts, SymInt[] ends, int[] steps) -> Tensor"
_LIBRARY = torch.library.Library("porter", "FRAGMENT")
_NEW = {
    f"aten.{name}.default"
    for name in "zeros ones full empty new_zeros new_ones new_full new_empty zeros_like ones_like full_like clone".split()
} | {"aten.empty.memory_format"}
_WRITES = {"aten.zero_.default", "aten.fill_.Scalar", "aten.fill_.Tensor", "aten.copy_.default"}


def write_slices(exported: ExportedProgram) -> None:
    """Puts the op in the place of each write into a slice of an array that nothing else has a view of."""
    graph = exported.graph
    for node in list(graph.nodes):
        if node.op != "call_function" or _name(node) not in _WRITES:
            continue
        views = []
        base = node.args[0]
        while _name(base) in ("aten.slice.Tensor", "aten.select.int"):
            views.append(base)
            base = base.args[0]
        if not views or not _is_new(base) or node.users or any(len(v.users) > 1 for v in views):
            continue
        if any(_reads_later(user, node) for user in base.users if user is not views[-1]):
            continue
        parts = _parts(views[::-1], base.meta["val"].ndim)
        if parts is None:
            continue
        value = 0 if _name(node) == "aten.zero_.default" else node.args[1]
        kind = "Tensor" if isinstance(value, torch.fx.Node) else "Scalar"
        with graph.inserting_before(node):
            written = graph.call_function(
                getattr(torch.ops.porter.set_slices, kind), (base, value, *parts)
            )
        written.meta = {**node.meta, "val": base.meta["val"]}
        for user in list(base.users):
            if user > node:
                user.replace_input_with(base, written)
        for old in (node, *views):
            graph.erase_node(old)


def _name(node: Any) -> str:
    return str(node.target).replace("torch.ops.", "") if isinstance(node, torch.fx.Node) else ""


def _is_new(node: Any) -> bool:
    """Whether a node makes memory of its own, which is no output: the program names its outputs by their nodes."""
    made = _name(node) in _NEW or _name(node).startswith("porter.set_slices")
    return made and all(user.op != "output" for user in node.users)


def _reads_later(user: torch.fx.Node, write: torch.fx.Node) -> bool:
    """Whether another view of the array may be read after the write."""
    op = user.target
    if user > write or not isinstance(op, torch._ops.OpOverload):
        return False
    if all(result.alias_info is None for result in op._schema.returns):
        return False
    return any(reader > write or _reads_later(reader, write) for reader in user.users)


def _parts(views: list[Any], rank: int) -> tuple[list[Any], ...] | None:
    """The axes, and their starts, ends and steps (0 where one place is picked); None where an axis is cut twice."""
    axes = list(range(rank))
    parts: dict[int, tuple[Any, Any, int]] = {}
    for view in views:
        if _name(view) == "aten.select.int":
            axis = axes.pop(view.args[1])
            part: tuple[Any, Any, int] = (view.args[2], _END, 0)
        else:
            given: tuple[Any, ...] = view.args[1:]
            dim, start, end, step = given + (0, None, None, 1)[len(given) :]
            axis = axes[dim]
            part = (0 if start is None else start, _END if end is None else end, step)
        if part == (0, _END, 1):
            continue
        if axis in parts:
            return None
        parts[axis] = part
    columns = zip(*parts.values(), strict=True) if parts else ((), (), ())
    return (list(parts), *map(list, columns))


def _written(x: Any, value: Any, axes: Any, starts: Any, ends: Any, steps: Any) -> Any:
    key: list[Any] = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        key[axis] = slice(start, end, step) if step else start
    result = x.clone()
    result[tuple(key)] = value
    return result


for _kind, _overload in (("Tensor", ".Tensor"), ("Scalar", ".Scalar")):
    _LIBRARY.define(f"set_slices{_overload}(Tensor x, {_kind} value, {_ARGUMENTS}")
    _LIBRARY.impl(f"set_slices{_overload}", _written, "CPU")
    torch.library.register_fake(
        f"porter::set_slices{_overload}",
        lambda x, *_: torch.empty_like(x),
        lib=_LIBRARY,
    )
