"""Runs the lowerings over a source graph."""

from __future__ import annotations

from typing import Any

from porter.ir import Program, Value
from porter.ir.builder import Builder
from porter.lowering.registry import Call, registry

_AUTHORS_TRANSPOSES = (
    "transpose",
    "permute",
    "movedim",
    "swap",
    "aten.t.",
    "aten.numpy_T",
    "aten.mT",
    "adjoint",
)


def lower_graph(importer: Any) -> Program:
    """The program of MLX calls for the importer's graph.

    Raises UnsupportedError that names every op without a lowering at once.
    """
    from porter.frontends.torch_export import raise_gaps

    table = registry()
    missing: dict[str, list[Any]] = {}
    for node in importer.graph.nodes:
        if (
            importer.is_ignored(node)
            or importer.is_symbolic(node)
            or importer.target(node) == "getitem"
        ):
            continue
        if importer.target(node) not in table:
            missing.setdefault(importer.target(node), []).append(node)
    if missing:
        raise_gaps(importer, missing)

    program = importer.program
    for node in importer.graph.nodes:
        if importer.is_ignored(node) or importer.is_symbolic(node):
            continue
        target = importer.target(node)
        args = [importer.argument(item) for item in node.args]
        if target == "getitem":
            importer.environment[node] = args[0][args[1]]
            _name(importer, node, importer.environment[node], args[1])
            continue
        kwargs = {key: importer.argument(item) for key, item in node.kwargs.items()}
        builder = Builder(importer.frames(node), importer.location(node))
        result = table[target](
            Call(builder, importer.outputs(node), target, builder.location), *args, **kwargs
        )
        if not any(word in target for word in _AUTHORS_TRANSPOSES):
            for new in builder.nodes:
                new.layout = new.op == ".transpose"
        program.nodes += builder.nodes
        importer.environment[node] = result
        mutated = importer.mutated(node)
        if mutated is not None:
            importer.environment[mutated] = result
        if isinstance(result, Value) and result.node in builder.nodes:
            _name(importer, node, result, None)
    _drop_inner_names(program)
    program.outputs = [
        (name, value) for name, value in importer.result() if isinstance(value, Value)
    ]
    names = [name for name, _ in program.outputs]
    if len(names) > 1:
        program.output_kind = (
            "tuple" if all(name.startswith("output_") for name in names) else "dict"
        )
    return program


def _drop_inner_names(program: Program) -> None:
    """A statement's variable names what the statement computes last, not what is inside its expression."""
    for node in program.nodes:
        for value in node.inputs():
            source = value.node
            if source is None or value.name is None or source.location != node.location:
                continue
            if any(out.name == value.name for out in node.outputs):
                value.name = None


def _name(importer: Any, node: Any, value: Value, index: int | None) -> None:
    """Ties a value to the source tensor it holds and to the author's variable."""
    if value.node is None:
        return
    if value.origin is None and value.permute is None:
        value.origin = node.name
    names = importer.hint(node)
    if index is None and len(names) == 1:
        value.name = names[0]
    elif index is not None and index < len(names) and len(names) > 1:
        value.name = names[index]
