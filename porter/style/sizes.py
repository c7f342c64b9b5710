"""S4: sizes are arguments."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from porter.style.finding import Finding
from porter.style.reading import Flow, Reading, dotted, is_call

#: layer -> how many of its first arguments are sizes.
_SIZED = {
    "Linear": 2, "Embedding": 2, "LayerNorm": 1, "RMSNorm": 1, "BatchNorm": 1, "InstanceNorm": 1, "GroupNorm": 2,
    "QuantizedLinear": 2, "LSTM": 2, "GRU": 2, "RNN": 2,
    **{f"Conv{kind}{rank}d": 2 for kind in ("", "Transpose") for rank in (1, 2, 3)},
}  # fmt: skip
_SMALL = 3


def check_sizes(reading: Reading) -> Iterator[Finding]:
    """S4: no number over 3 as a layer's size or in a reshape.

    The root's constructor and functions that build stages are where an architecture's own numbers stand (ResNet's 64, 128,
    256, 512): there they are free.
    """
    for cls in reading.classes:
        init = cls.methods.get("__init__")
        if init is None or cls is reading.root:
            continue
        for node in ast.walk(init):
            if not isinstance(node, ast.Call):
                continue
            layer = dotted(node.func)
            for size in node.args[: _SIZED.get(layer.removeprefix("nn."), 0)]:
                if _is_number(size):
                    yield Finding("S4", node.lineno, f"{cls.name}: {ast.unparse(size)} in {layer}")
    for owner, flow in reading.forwards:
        where = owner.name if owner else flow.function.name
        for node in ast.walk(flow.function):
            if isinstance(node, ast.Call):
                for size in _reshaped(node, flow):
                    if _is_big(size):
                        sentence = f"{where} reshapes to {ast.unparse(size)}"
                        yield Finding("S4", node.lineno, sentence)


def _reshaped(node: ast.Call, flow: Flow) -> list[ast.expr]:
    if not is_call(node, "reshape", "unflatten"):
        return []
    sizes: list[ast.expr] = []
    for argument in node.args:
        value = flow.resolve(argument)
        sizes += value.elts if isinstance(value, (ast.Tuple, ast.List)) else [argument]
    return sizes


def _is_big(node: ast.expr) -> bool:
    """A literal over 3, or an array's size divided by one."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.FloorDiv, ast.Div)):
        return _is_number(node.right)
    return _is_number(node)


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and abs(node.value) > _SMALL
