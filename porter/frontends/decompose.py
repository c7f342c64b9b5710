"""torch's own decomposition of one call, for ops that have no lowering."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree


def decomposed(node: torch.fx.Node) -> tuple[torch.fx.Graph, list[torch.fx.Node]] | None:
    """The call as a graph of simpler ops, and the nodes that its placeholders stand for.

    None where torch has no decomposition of the op, or where it draws random numbers or branches on the data.
    """
    op = node.target
    if not isinstance(op, torch._ops.OpOverload) or op._schema.is_mutable:
        return None
    # a composite op's own kernel is what runs; the table's version of one may take other arguments
    function = op.decompose if _is_composite(op) else _table().get(op)
    if function is None or torch.Tag.nondeterministic_seeded in op.tags:
        return None
    flat, spec = pytree.tree_flatten((node.args, node.kwargs))
    nodes = [item for item in flat if isinstance(item, torch.fx.Node)]
    if any("val" not in item.meta for item in nodes):
        return None

    def run(*values: Any) -> Any:
        rest = iter(values)
        items = [next(rest) if isinstance(item, torch.fx.Node) else item for item in flat]
        args, kwargs = pytree.tree_unflatten(items, spec)
        return function(*args, **kwargs)

    try:
        with _mode(nodes), torch.no_grad():
            traced = make_fx(functionalize(run))(*(item.meta["val"] for item in nodes))
    except Exception:  # noqa: BLE001 -- a decomposition may raise anything; then there is none
        return None
    calls = [inner for inner in traced.graph.nodes if inner.op == "call_function"]
    if any(inner.target is op for inner in calls) or any(
        n.op == "get_attr" for n in traced.graph.nodes
    ):
        return None
    for inner in calls:
        for key in ("nn_module_stack", "stack_trace"):
            inner.meta[key] = node.meta.get(key)
    return traced.graph, nodes


def _is_composite(op: torch._ops.OpOverload) -> bool:
    """Whether the op's own kernel is made of other ops; those of TorchScript alone (aten::size) have no kernel to ask about."""
    try:
        return bool(op._can_decompose())
    except RuntimeError:
        return False


def _mode(nodes: list[torch.fx.Node]) -> Any:
    """The fake mode of the graph's own values."""
    from torch._guards import detect_fake_mode

    mode = detect_fake_mode([node.meta["val"] for node in nodes])
    return mode if mode is not None else torch._subclasses.fake_tensor.FakeTensorMode()


@cache
def _table() -> dict[Any, Any]:
    from torch._decomp import decomposition_table

    return dict(decomposition_table)
