"""The module calls of an exported graph as entries, for a recording that no port exists for yet."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from porter.validate.graph import Graph


def scopes(graph: Graph) -> list[dict[str, Any]]:
    """One entry for each call of a submodule: what flows into it, and what flows out.

    `nn_module_stack` maps a key for each call to (path, class); a module called twice has two keys.
    """
    members: dict[str, list[Node]] = {}
    named: dict[str, tuple[str, str]] = {}
    for node in graph.program.graph.nodes:
        if node.op != "call_function":
            continue
        for key, (path, cls) in (node.meta.get("nn_module_stack") or {}).items():
            if path:
                members.setdefault(key, []).append(node)
                named[key] = (path, cls if isinstance(cls, str) else cls.__qualname__)
    entries = []
    for key, nodes in members.items():
        inside = set(nodes)
        inputs = [n for n in _inputs(nodes, inside) if n.name not in graph.state and _tensor(n)]
        outputs = [n for n in nodes if _tensor(n) and any(u not in inside for u in n.users)]
        if outputs:
            path, cls = named[key]
            entries.append({
                "path": path, "class": cls.rpartition(".")[2], "source": path,
                "leaf": not any(p.startswith(path + ".") for p, _ in named.values()),
                "inputs": [{"value": n.name, "permute": None} for n in inputs],
                "outputs": [{"value": n.name, "permute": None} for n in outputs],
            })  # fmt: skip
    return entries


def _inputs(nodes: list[Node], inside: set[Node]) -> list[Node]:
    found: dict[Node, None] = {}
    for node in nodes:
        for used in node.all_input_nodes:
            if used not in inside and used.op != "get_attr":
                found[used] = None
    return list(found)


def _tensor(node: Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)
