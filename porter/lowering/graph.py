"""Runs the lowerings over a source graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from porter.errors import Gap, UnsupportedError
from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.lowering.control_flow import CONTROL_FLOW, body_nodes
from porter.lowering.data_numbers import data_number
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
    from porter.frontends.gaps import raise_gaps

    lowerer = _Lowerer(importer)
    missing: dict[str, list[Any]] = {}
    for node in importer.graph.nodes:
        if lowerer.is_call(node) and lowerer.is_missing(node):
            missing.setdefault(importer.target(node), []).append(node)
    if missing:
        raise_gaps(importer, missing, lowerer.lacking)
    refused: tuple[Gap, ...] = ()
    for node in importer.graph.nodes:
        try:
            lowerer.lower(node)
        except UnsupportedError as error:
            where = str(importer.location(node))
            refused += error.gaps or (Gap(importer.target(node), 1, where, str(error)),)
            lowerer.stand_in(node)
    program = importer.program
    _raise_refused(importer, refused)
    _drop_inner_names(program)
    result = importer.result()
    program.outputs = [(name, value) for name, value in result if isinstance(value, Value)]
    names = [name for name, _ in program.outputs]
    if left := [name for name, _ in result if name not in names]:
        program.notes.append(f"the port returns arrays alone, without {', '.join(left)}")
    if len(names) > 1:
        program.output_kind = (
            "tuple" if all(name.startswith("output_") for name in names) else "dict"
        )
    return program


class _Lowerer:
    """Lowers node by node; what has no lowering, or none for its arguments, by torch's decomposition of it."""

    def __init__(self, importer: Any):
        self.importer = importer
        self.table = registry()
        self.decompositions: dict[Any, Any] = {}

    def is_call(self, node: Any) -> bool:
        importer = self.importer
        ignored = importer.is_ignored(node) or importer.is_symbolic(node)
        return not ignored and importer.target(node) != "getitem" and not _is_tuple(node)

    def is_missing(self, node: Any) -> bool:
        """Whether an op has no lowering, nor a decomposition whose ops have one."""
        target = self.importer.target(node)
        if target in self.table:
            return False
        if target in CONTROL_FLOW:
            return any(self.is_call(inner) and self.is_missing(inner) for inner in body_nodes(node))
        parts = self._decomposed(node)
        return parts is None or any(
            self.is_call(inner) and self.is_missing(inner) for inner in parts[0].nodes
        )

    def lacking(self, node: Any) -> set[str]:
        """What an op's decomposition, or a branch's body, needs that has no lowering."""
        if self.importer.target(node) in CONTROL_FLOW:
            nodes = body_nodes(node)
        else:
            parts = self._decomposed(node)
            nodes = list(parts[0].nodes) if parts else []
        inner = [n for n in nodes if self.is_call(n)]
        found: set[str] = set()
        for n in inner:
            if self.is_missing(n):
                found |= self.lacking(n) or {self.importer.target(n)}
        return found

    def lower(self, node: Any, inner: bool = False) -> None:
        """Appends the node's MLX calls to the program. `inner` nodes are no nodes of the exported graph."""
        importer = self.importer
        if importer.is_ignored(node):
            return
        if importer.is_symbolic(node):
            if (number := data_number(importer, node)) is not None:
                importer.environment[node] = number
            return
        target = importer.target(node)
        if target == "getitem":
            result: Any = importer.argument(node.args[0])[node.args[1]]
            importer.environment[node] = result
            if not inner:
                _name(importer, node, result, node.args[1])
            return
        if _is_tuple(node):
            importer.environment[node] = [importer.argument(item) for item in node.args]
            return
        program = importer.program
        before = len(program.nodes)
        if target in CONTROL_FLOW:
            result = CONTROL_FLOW[target](self, node)
        elif target in self.table:
            try:
                result = self._lowered(node)
            except UnsupportedError as error:
                if error.is_final or self._decomposed(node) is None:
                    raise
                try:
                    result = self._by_parts(node)
                except UnsupportedError:
                    del program.nodes[before:]
                    result = None
                if result is None:
                    raise
        else:
            result = self._by_parts(node)
        importer.environment[node] = result
        mutated = importer.mutated(node)
        if mutated is not None:
            importer.environment[mutated] = result
        if not inner and isinstance(result, Value) and result.node in program.nodes[before:]:
            _name(importer, node, result, None)

    def _lowered(self, node: Any) -> Any:
        importer = self.importer
        target = importer.target(node)
        args = [importer.argument(item) for item in node.args]
        kwargs = {key: importer.argument(item) for key, item in node.kwargs.items()}
        builder = Builder(importer.frames(node), importer.location(node))
        outputs = importer.outputs(node)
        unread = _unread(node, len(outputs))
        call = Call(builder, outputs, target, builder.location, unread, _is_plain(node))
        result = self.table[target](call, *args, **kwargs)
        if target.split(".")[1].rstrip("_") not in _AUTHORS:
            for new in builder.nodes:
                new.layout = new.op == ".transpose" and _is_layout(new)
        importer.program.nodes += builder.nodes
        return result

    def _by_parts(self, node: Any) -> Any:
        parts = self._decomposed(node)
        if parts is None:
            where = str(self.importer.location(node))
            raise UnsupportedError("no lowering", (Gap(self.importer.target(node), 1, where),))
        graph, arguments = parts
        environment = self.importer.environment
        inputs = [inner for inner in graph.nodes if inner.op == "placeholder"]
        for placeholder, argument in zip(inputs, arguments, strict=True):
            environment[placeholder] = self.importer.argument(argument)
        for inner in graph.nodes:
            self.lower(inner, inner=True)
        output = next(inner for inner in graph.nodes if inner.op == "output").args[0]
        result = self.importer.argument(output)
        found = result if isinstance(result, list) else [result]
        wanted = self.importer.outputs(node)
        if [(tuple(x.shape), x.dtype) for x in found if isinstance(x, Value)] != wanted:
            where, reason = str(self.importer.location(node)), "its decomposition has another shape"
            raise UnsupportedError(reason, (Gap(self.importer.target(node), 1, where, reason),))
        return result

    def _decomposed(self, node: Any) -> Any:
        from porter.frontends.decompose import decomposed

        if node not in self.decompositions:
            self.decompositions[node] = decomposed(node)
        return self.decompositions[node]

    def stand_in(self, node: Any) -> None:
        """Values in the place of a refused node's, so that the others are still looked at."""
        values = [Value(shape, dtype) for shape, dtype in self.importer.outputs(node)]
        is_list = isinstance(node.meta.get("val"), (list, tuple))
        self.importer.environment[node] = values if is_list else values[0]


def _is_tuple(node: Any) -> bool:
    """A decomposition may put its results into a named tuple."""
    return isinstance(node.target, type) and issubclass(node.target, tuple)


def _is_plain(node: Any) -> bool:
    """Whether the first argument is no view of other memory, nor in another order; asked for by as_strided alone."""
    if "as_strided" not in str(node.target):
        return True
    tensor = node.args[0].meta["val"]
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return bool(tensor.is_contiguous() and whole)


def _unread(node: Any, count: int) -> frozenset[int]:
    """The outputs of several that no getitem takes, or one that nothing reads."""
    if any(user.op == "output" for user in node.users):
        return frozenset()
    read = {user.args[1] for user in node.users if len(user.args) > 1 and user.users}
    return frozenset(range(count)) - read


def _raise_refused(importer: Any, refused: tuple[Gap, ...]) -> None:
    """Raises UnsupportedError for ops without an exact form for their arguments, and for outputs that no one computes."""
    known = set(importer.program.inputs)
    gaps = list(refused)
    for node in importer.program.nodes if not refused else ():
        for value in node.inputs():
            if value not in known and not value.is_parameter:
                gaps.append(Gap(value.name or "an output", 1, str(node.location)))
        known.update(node.outputs)
    for name, value in importer.result() if not refused else ():
        if isinstance(value, Value) and value not in known and not value.is_parameter:
            gaps.append(Gap(value.name or f"output {name}", 1, "the outputs"))
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
