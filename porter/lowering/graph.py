"""Runs the lowerings over a source graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from porter.errors import Gap, UnsupportedError
from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.lowering.registry import Call, registry

#: Ops by which an author orders axes; any other transpose to or from channels-last is a lowering's.
_AUTHORS = (
    "transpose",
    "permute",
    "movedim",
    "moveaxis",
    "swapaxes",
    "swapdims",
    "t",
    "numpy_T",
    "mT",
    "mH",
    "adjoint",
)


def _is_layout(node: Node) -> bool:
    """Whether a transpose takes a feature map to channels-last or back."""
    axes = tuple(node.args[1:])
    inner = range(1, len(axes) - 1)
    return len(axes) > 2 and axes in ((0, *range(2, len(axes)), 1), (0, len(axes) - 1, *inner))


def lower_graph(importer: Any) -> Program:
    """The program of MLX calls for the importer's graph.

    Raises UnsupportedError that names every op without a lowering at once.
    """
    from porter.frontends.import_graph import raise_gaps

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
    refused: tuple[Gap, ...] = ()
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
        call = Call(builder, importer.outputs(node), target, builder.location)
        try:
            result = table[target](call, *args, **kwargs)
        except UnsupportedError as error:
            refused += error.gaps or (Gap(target, 1, str(builder.location), str(error)),)
            stand_ins = [Value(shape, dtype) for shape, dtype in call.outputs]
            result = stand_ins[0] if len(stand_ins) == 1 else stand_ins
        if target.split(".")[1].rstrip("_") not in _AUTHORS:
            for new in builder.nodes:
                new.layout = new.op == ".transpose" and _is_layout(new)
        program.nodes += builder.nodes
        importer.environment[node] = result
        mutated = importer.mutated(node)
        if mutated is not None:
            importer.environment[mutated] = result
        if isinstance(result, Value) and result.node in builder.nodes:
            _name(importer, node, result, None)
    _raise_refused(importer, refused)
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


def _raise_refused(importer: Any, refused: tuple[Gap, ...]) -> None:
    """Raises UnsupportedError for ops without an exact form for their arguments, and for outputs that no one computes."""
    known = set(importer.program.inputs)
    gaps = list(refused)
    for node in importer.program.nodes if not refused else ():
        for value in node.inputs():
            if value not in known and not value.is_parameter:
                gaps.append(Gap(value.name or "an output", 1, str(node.location)))
        known.update(node.outputs)
    if gaps:
        counts = Counter((gap.name, gap.reason) for gap in gaps)
        first = {(gap.name, gap.reason): gap for gap in reversed(gaps)}
        table = tuple(replace(first[key], count=count) for key, count in counts.most_common())
        message = (
            f"{importer.source.spec} needs {len(table)} thing(s) that porter has no exact form for:"
        )
        raise UnsupportedError(message, table)


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
