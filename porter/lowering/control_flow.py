"""Branches and loops of the exported graph: torch.cond and scan. What they hold is lowered like the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from porter.errors import Gap, UnsupportedError
from porter.ir import Value
from porter.ir.builder import Builder

#: A scan is written out turn by turn; more turns than this would be no source to read.
TURNS = 64

_NO_LOOP = {
    "while_loop": "how often it runs depends on the data: write a for loop, or torch's scan over an axis of fixed length",
    "wrap_with_autocast": "a region of autocast that is on: cast in the model, and leave autocast to the training script",
    "associative_scan": "write it with cumulative sums, or as torch's scan",
    "map_impl": "write it with torch.vmap, or over the whole array",
}  # fmt: skip


def branch(lowerer: Any, node: Any) -> list[Value]:
    """torch.cond: both branches are pure, so both are computed and the result is chosen by mx.where."""
    importer = lowerer.importer
    predicate = importer.argument(node.args[0])
    operands = [importer.argument(item) for item in node.args[3]]
    sides = [_body(node, position) for position in (1, 2)]
    if isinstance(predicate, bool):
        return _run(lowerer, node, sides[0 if predicate else 1], operands)
    if not isinstance(predicate, Value):
        raise _refused(
            importer,
            node,
            "its condition is one of symbolic sizes: fix them, or write it with data",
        )
    first, second = (_run(lowerer, node, side, operands) for side in sides)
    builder = Builder(importer.frames(node), importer.location(node))
    results = []
    for x, y, (shape, dtype) in zip(first, second, importer.outputs(node), strict=True):
        if x.shape != y.shape:
            raise _refused(importer, node, "its branches give arrays of different sizes")
        results.append(builder.op("mx.where", predicate, x, y, shape=shape, dtype=dtype))
    importer.program.nodes += builder.nodes
    return results


def scan(lowerer: Any, node: Any) -> list[Value]:
    """torch's scan over the first axis, written out turn by turn."""
    importer = lowerer.importer
    body = _body(node, 0)
    state = [importer.argument(item) for item in node.args[1]]
    arrays = [importer.argument(item) for item in node.args[2]]
    more = [importer.argument(item) for item in (node.args[3] if len(node.args) > 3 else ())]
    count = arrays[0].shape[0] if arrays else 0
    if not isinstance(count, int) or count > TURNS:
        raise _refused(
            importer, node, f"more than {TURNS} turns, or as many as a symbolic size says"
        )
    rows: list[list[Value]] = []
    for turn in range(count):
        builder = Builder(importer.frames(node), importer.location(node))
        now = [builder.index(x, (turn,), x.shape[1:]) for x in arrays]
        importer.program.nodes += builder.nodes
        results = _run(lowerer, node, body, [*state, *now, *more])
        state, row = results[: len(state)], results[len(state) :]
        rows.append(row)
    builder = Builder(importer.frames(node), importer.location(node))
    outputs = importer.outputs(node)[len(state) :]
    stacked = [
        builder.op("mx.stack", list(column), shape=shape, dtype=dtype, axis=0)
        for column, (shape, dtype) in zip(zip(*rows, strict=True), outputs, strict=True)
    ]
    importer.program.nodes += builder.nodes
    return [*state, *stacked]


CONTROL_FLOW: dict[str, Callable[[Any, Any], list[Value]]] = {"cond": branch, "scan": scan}


def reason_against(target: str) -> str:
    """Why a region of the graph has no form in MLX, and what to write instead; empty for others."""
    return _NO_LOOP.get(target, "")


def body_nodes(node: Any) -> list[Any]:
    """The nodes inside a branch or loop."""
    positions = (1, 2) if str(node.target) == "cond" else (0,)
    return [inner for position in positions for inner in _body(node, position).nodes]


def _body(node: Any, position: int) -> Any:
    return getattr(node.graph.owning_module, node.args[position].target).graph


def _run(lowerer: Any, node: Any, graph: Any, arguments: Sequence[Any]) -> list[Value]:
    """Lowers a body once with its placeholders bound."""
    importer = lowerer.importer
    inputs = [inner for inner in graph.nodes if inner.op == "placeholder"]
    for placeholder, argument in zip(inputs, arguments, strict=True):
        importer.environment[placeholder] = argument
    for inner in graph.nodes:
        for key in ("nn_module_stack", "stack_trace"):
            inner.meta[key] = node.meta.get(key)
        lowerer.lower(inner, inner=True)
    output = next(inner for inner in graph.nodes if inner.op == "output").args[0]
    return [importer.argument(item) for item in output]


def _refused(importer: Any, node: Any, reason: str) -> UnsupportedError:
    where = str(importer.location(node))
    return UnsupportedError(reason, (Gap(str(node.target), 1, where, reason),))
