"""An embedding that several modules look up stands where all of them are."""

from __future__ import annotations

from dataclasses import replace

from porter.ir import Frame, Node, Program


def hoist_embeddings(program: Program) -> int:
    """Encoder and decoder that share one table get its rows from the module around them. Returns how many moved.

    mlx.nn's modules are a tree: a table in two of them would be kept twice, and a training step would part the copies.
    """
    readers: dict[str, list[Node]] = {}
    for node in program.nodes:
        if node.op in ("nn.Embedding", "as_linear"):
            readers.setdefault(node.params["weight"].path or "", []).append(node)
    moved = 0
    for path, nodes in readers.items():
        lookups = [node for node in nodes if node.op == "nn.Embedding"]
        around = _common([node.scope[:-1] for node in lookups])
        if len({node.scope for node in lookups}) < 2 or all(
            node.scope[:-1] == around for node in lookups
        ):
            continue
        name = lookups[0].scope[-1].path.rpartition(".")[2]
        home = ".".join(filter(None, [around[-1].path if around else "", name]))
        weight = replace(lookups[0].params["weight"], path=f"{home}.weight")
        if (
            any(v.path == weight.path for n in program.nodes for v in n.inputs())
            and path != weight.path
        ):
            continue
        for node in nodes:
            node.params["weight"] = weight
        for node in lookups:
            node.scope = around
            moved += 1
    return moved


def _common(scopes: list[tuple[Frame, ...]]) -> tuple[Frame, ...]:
    first = scopes[0] if scopes else ()
    for depth, frame in enumerate(first):
        if any(scope[depth : depth + 1] != (frame,) for scope in scopes):
            return first[:depth]
    return first
