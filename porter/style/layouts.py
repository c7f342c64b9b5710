"""S5 and S8: transposes beside layers, and weights transposed at run time."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from porter.style.finding import Finding
from porter.style.reading import (
    Flow,
    ModuleClass,
    Reading,
    attribute_of_self,
    dotted,
    is_call,
    operand,
)

_TURNS = ("transpose", "swapaxes", "moveaxis")
_CHANNELS = ("Conv", "MaxPool", "AvgPool", "BatchNorm", "GroupNorm", "InstanceNorm", "Upsample")
_THROUGH = {"relu", "gelu", "silu", "sigmoid", "tanh", "relu6", "hardswish", "leaky_relu", "elu"}


def check_transposes(reading: Reading) -> Iterator[Finding]:
    """S5: no transpose before or after a conv, a pool or a norm over channels; the root may have one at each boundary."""
    for cls in reading.classes:
        for flow in cls.forwards:
            found = list(_beside(cls, flow))
            if cls is reading.root:
                found = found[2:]  # the image that comes in, the map that goes out
            yield from found


def _beside(cls: ModuleClass, flow: Flow) -> Iterator[Finding]:
    for node in ast.walk(flow.function):
        if not isinstance(node, ast.Call):
            continue
        layer = _channel_layer(cls, node)
        if layer and node.args and is_call(_through(flow, node.args[0]), *_TURNS):
            yield Finding("S5", node.lineno, f"{cls.name} turns the axes before {layer}")
        if is_call(node, *_TURNS):
            layer = _channel_layer(cls, _through(flow, operand(node)))
            if layer:
                yield Finding("S5", node.lineno, f"{cls.name} turns the axes after {layer}")


def _channel_layer(cls: ModuleClass, node: ast.expr | None) -> str:
    layer = cls.layer(node)
    return layer if layer.removeprefix("nn.").startswith(_CHANNELS) else ""


def _through(flow: Flow, node: ast.expr | None) -> ast.expr | None:
    """What activations are given."""
    node = flow.resolve(node)
    while isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in _THROUGH:
        node = flow.resolve(operand(node))
    return node


def check_weights(reading: Reading) -> Iterator[Finding]:
    """S8: no weight is transposed while the model runs.

    `x @ self.weight.T` with a parameter that no layer holds is how mlx-lm's routers are written: that is free. So is a table
    that the class reads as it is stored, too.
    """
    for cls in reading.classes:
        turned: dict[str, list[Finding]] = {}
        for flow in cls.forwards:
            routers = {
                id(node.right)
                for node in ast.walk(flow.function)
                if isinstance(node, ast.BinOp)
                and isinstance(node.op, ast.MatMult)
                and isinstance(node.right, ast.Attribute)
                and attribute_of_self(node.right.value) is not None
            }
            for node in ast.walk(flow.function):
                if id(node) in routers:
                    continue
                receiver = None
                if isinstance(node, ast.Attribute) and node.attr == "T":
                    receiver = node.value
                elif is_call(node, *_TURNS):
                    receiver = operand(node)  # type: ignore[arg-type]
                receiver = flow.resolve(receiver)
                if receiver is not None and _is_weight(cls, receiver):
                    name = ast.unparse(receiver)
                    found = Finding("S8", receiver.lineno, f"{cls.name} transposes {name}")
                    turned.setdefault(name, []).append(found)
        for name, findings in turned.items():
            if _reads(cls, name) <= len(findings):
                yield from findings


def _reads(cls: ModuleClass, name: str) -> int:
    """How often the class's forwards name a weight."""
    return sum(
        isinstance(node, ast.Attribute) and ast.unparse(node) == name
        for flow in cls.forwards
        for node in ast.walk(flow.function)
    )


def _is_weight(cls: ModuleClass, node: ast.expr) -> bool:
    if isinstance(node, ast.Attribute) and node.attr in ("weight", "scales"):
        return dotted(node).startswith("self.")
    name = attribute_of_self(node)
    value = cls.assigned.get(name or "")
    return isinstance(value, ast.Call) and dotted(value.func) in ("mx.zeros", "mx.ones")
