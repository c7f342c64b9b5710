"""Which buffers carry state from one call of the forward to the next."""

from __future__ import annotations

import torch
from torch.export import ExportedProgram


def carried_buffers(exported: ExportedProgram) -> list[str]:
    """Buffers that the forward writes and that its outputs depend on; a counter that nothing else reads is none."""
    signature = exported.graph_signature
    written = set(signature.buffers_to_mutate.values())
    outputs = next(node for node in exported.graph.nodes if node.op == "output")
    results = {node for node in outputs.args[0] if isinstance(node, torch.fx.Node)}
    results = {node for node in results if node.name in signature.user_outputs}
    placeholders = {node.name: node for node in exported.graph.nodes if node.op == "placeholder"}
    return [
        buffer
        for name, buffer in signature.inputs_to_buffers.items()
        if buffer in written and _reaches(placeholders[name], results)
    ]


def _reaches(node: torch.fx.Node, results: set[torch.fx.Node]) -> bool:
    seen, stack = {node}, [node]
    while stack:
        top = stack.pop()
        if top in results:
            return True
        later = [user for user in top.users if user not in seen]
        seen.update(later)
        stack += later
    return False
