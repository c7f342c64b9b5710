"""An exported graph without writes in place, and without regions that change nothing in inference."""

from __future__ import annotations

import operator
from functools import partial
from typing import Any

import torch
from torch.export import ExportedProgram

from porter.frontends.write_slices import write_slices

#: Regions that change nothing in inference, and where their graph stands among the arguments.
_REGIONS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}


def functionalized(exported: ExportedProgram) -> ExportedProgram:
    """In-place writes into views are made functional by torch; other in-place ops are read as their functional twins."""
    _inline_regions(exported)
    _work_out_types(exported)
    _drop_checks(exported)
    write_slices(exported)
    if any(_is_vmap(node) for node in exported.graph.nodes):
        return _without_writes(exported)
    views: set[torch.fx.Node] = set()
    for node in exported.graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        schema = node.target._schema
        mutated = [
            argument
            for argument, info in zip(node.args, schema.arguments, strict=False)
            if info.alias_info is not None
            and info.alias_info.is_write
            and isinstance(argument, torch.fx.Node)
        ]
        for argument in mutated:
            shared = argument in views or any(
                user in views and _later(user, node) for user in argument.users
            )
            if (
                shared
                or argument.op == "placeholder"
                or node.target.__name__.startswith(("copy_", "index_put_", "fill_"))
            ):
                return _without_writes(exported)
        if any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns):
            views.add(node)
    return exported


def _without_writes(exported: ExportedProgram) -> ExportedProgram:
    """By torch, which checks sizes that depend on the data once more."""
    exported = exported.run_decompositions({})
    _drop_checks(exported)
    _share_views(exported)
    return exported


def _share_views(exported: ExportedProgram) -> None:
    """One view for each that torch takes anew after a write, in the module that all of its readers are in."""
    graph = exported.graph
    seen: dict[tuple[object, ...], torch.fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function" or not (_is_view(node) or node.target is operator.getitem):
            continue
        key = (node.target, str(node.args), str(node.kwargs))
        first = seen.setdefault(key, node)
        if first is node or any(user.op == "output" for user in node.users):
            continue
        depth, own = (len(n.meta.get("nn_module_stack") or ()) for n in (first, node))
        if own < depth:
            first.meta = node.meta
        node.replace_all_uses_with(first)
        graph.erase_node(node)


def _is_view(node: torch.fx.Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    return any(r.alias_info and not r.alias_info.is_write for r in node.target._schema.returns)


def _inline_regions(exported: ExportedProgram) -> None:
    """Puts the graphs of no-grad and switched-off autocast regions in their place."""
    graph = exported.graph
    for node in list(graph.nodes):
        place = _REGIONS.get(str(node.target)) if node.op == "call_function" else None
        if place is None or (place == 4 and node.args[2]):
            continue  # autocast that is on stays, and is named as a gap
        region = getattr(exported.graph_module, str(node.args[place].target))
        inputs = [n for n in region.graph.nodes if n.op == "placeholder"]
        with graph.inserting_before(node):
            table = dict(zip(inputs, node.args[place + 1 :], strict=True))
            result = graph.graph_copy(region.graph, table)
        for user in list(node.users):
            user.replace_all_uses_with(
                result[user.args[1]] if isinstance(result, (tuple, list)) else result
            )
            graph.erase_node(user)
        graph.erase_node(node)


def _is_vmap(node: torch.fx.Node) -> bool:
    """A step into or out of torch.vmap: it hides an axis from the ops inside."""
    module = getattr(node.target, "__module__", "")
    return node.op == "call_function" and module == "torch._functorch.predispatch"


def _work_out_types(exported: ExportedProgram) -> None:
    """What `torch.promote_types` gives is known."""
    for node in list(exported.graph.nodes):
        if node.target is not torch.ops.aten.promote_types.default:
            continue
        for user in list(node.users):
            known = partial(_replaced, node, torch.promote_types(*node.args))
            user.args, user.kwargs = torch.fx.map_arg((user.args, user.kwargs), known)
        exported.graph.erase_node(node)


def _replaced(node: torch.fx.Node, value: Any, item: torch.fx.Node) -> Any:
    return value if item is node else item


#: Checks of the author's: they raise, and compute nothing.
_CHECKS = {
    "aten._assert_tensor_metadata.default",
    "aten.item.default",  # of a buffer whose value is known
    "aten._assert_scalar.default",
    "aten._assert_async.msg",
    "aten.sym_constrain_range_for_size.default",
    "aten.sym_constrain_range.default",
}


def _drop_checks(exported: ExportedProgram) -> None:
    """Removes assertions and numbers that nothing reads, and what was computed for them alone."""
    graph = exported.graph
    unread: set[torch.fx.Node] = set()
    for node in reversed(list(graph.nodes)):
        if node.op != "call_function" or node.users:
            continue
        if str(node.target).replace("torch.ops.", "") in _CHECKS:
            unread.update(node.all_input_nodes)
        elif node not in unread or (
            isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
        ):
            continue
        else:
            unread.update(node.all_input_nodes)
        for read in node.all_input_nodes:  # torch's export forgets users that read a value twice
            read.users.setdefault(node)
        graph.erase_node(node)


def _later(user: torch.fx.Node, node: torch.fx.Node) -> bool:
    """Whether `user`'s value may still be read after `node` has run."""
    return any(reader > node for reader in user.users)
