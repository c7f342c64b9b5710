"""Output heads that share their weight with an embedding (Press and Wolf 2017)."""

from __future__ import annotations

from porter.ir import Node, Program
from porter.ir.builder import Builder


def _home(program: Program) -> None:
    """A shared weight lives at the embedding, whichever of its names the graph has picked."""
    values = {v for node in program.nodes for v in node.inputs() if v.is_parameter}
    paths = {value.path for value in values}
    for node in program.nodes:
        if (
            node.op != "nn.Embedding"
            or not node.scope
            or not node.scope[-1].cls.endswith("Embedding")
        ):
            continue
        old, home = node.params["weight"].path, f"{node.scope[-1].path}.weight"
        if old == home or home in paths:
            continue
        for value in values:
            if value.path == old:
                value.path = home


def tie_heads(program: Program) -> int:
    """A Linear on an embedding's weight becomes `embedding.as_linear(x)`, with its bias added. Returns how many."""
    _home(program)
    embedded = {
        node.params["weight"].path: node.params["weight"]
        for node in program.nodes
        if node.op == "nn.Embedding"
    }
    nodes: list[Node] = []
    count = 0
    for node in program.nodes:
        nodes.append(node)
        if node.op != "nn.Linear" or node.params["weight"].path not in embedded:
            continue
        count += 1
        bias = node.params.get("bias")
        node.op, node.attrs = "as_linear", {}
        node.params = {"weight": embedded[node.params["weight"].path]}
        if bias is not None:
            builder = Builder(node.scope, node.location)
            old = node.output
            result = builder.op("+", old, bias, shape=old.shape, dtype=old.dtype)
            result.origin, result.permute, result.name = old.origin, old.permute, old.name
            old.origin = old.permute = old.name = None
            nodes += builder.nodes
            program.replace({old: result})
            builder.nodes[0].args[0] = old
    program.nodes = nodes
    return count
