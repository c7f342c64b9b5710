"""A parameter that is permuted or reshaped before every use is stored that way."""

from __future__ import annotations

from porter.ir import Node, Program, Value
from porter.lowering.parameters import permuted, reshaped


def fold_parameters(program: Program) -> int:
    """Moves transposes and reshapes of parameters into their recipes. Returns how many nodes went."""
    count = 0
    while True:
        uses: dict[str, list[tuple[Node, Value]]] = {}
        for node in program.nodes:
            for value in dict.fromkeys(node.inputs()):
                if value.is_parameter:
                    uses.setdefault(value.path or "", []).append((node, value))
        mapping: dict[Value, Value] = {}
        for readers in uses.values():
            folded = [_folded(node, value) for node, value in readers]
            if all(folded) and len({(str(v.recipe), v.shape) for v in folded if v}) == 1:
                mapping.update(
                    (node.output, new)
                    for (node, _), new in zip(readers, folded, strict=True)
                    if new
                )
        if not mapping:
            return count
        program.nodes = [node for node in program.nodes if node.outputs[0] not in mapping]
        program.replace(mapping)
        count += len(mapping)


def _folded(node: Node, value: Value) -> Value | None:
    """What the node makes of the parameter, as a parameter; None where it is more than a new order or shape."""
    if not node.args or node.args[0] is not value or len(list(node.inputs())) != 1:
        return None
    if node.op == ".transpose":
        return permuted(value, node.args[1:])
    if node.op in (".reshape", "mx.expand_dims", ".squeeze", "[]") and all(
        isinstance(s, int) for s in node.output.shape
    ):
        if node.op == "[]" and not all(
            k is None or k == slice(None) or k == slice(None, None, None) for k in node.attrs["key"]
        ):
            return None
        return reshaped(value, node.output.shape)
    return None
