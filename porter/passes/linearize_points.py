"""Convolutions of single points that mix tokens or heads."""

from __future__ import annotations

from porter.ir import Node, Program, Value
from porter.lowering.parameters import reshaped
from porter.passes.factor.layer_names import layer_path

_CONVOLUTIONS = ("nn.Conv1d", "nn.Conv2d", "nn.Conv3d")


def linearize_points(program: Program) -> int:
    """A 1x1 convolution beside a transpose becomes nn.Linear, which is what it is on tokens. Returns how many.

    Beside other maps it stays a convolution, and so it does where the same layer is called elsewhere without a transpose.
    """
    users = program.users()
    calls: dict[str, list[Node]] = {}
    for node in program.nodes:
        if node.op in _CONVOLUTIONS:
            calls.setdefault(layer_path(node), []).append(node)
    count = 0
    for nodes in calls.values():
        if not all(_is_point(node) and _is_turned(node, users) for node in nodes):
            continue
        for node in nodes:
            weight = node.params["weight"]
            node.params["weight"] = reshaped(weight, (weight.shape[0], weight.shape[-1]))
            node.attrs = {
                "input_dims": weight.shape[-1],
                "output_dims": weight.shape[0],
                "bias": "bias" in node.params,
            }
            node.op = "nn.Linear"
            count += 1
    return count


def _is_point(node: Node) -> bool:
    usual = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    return all(_single(node.attrs.get(name, n)) == {n} for name, n in usual.items())


def _single(number: object) -> set[object]:
    return set(number) if isinstance(number, (tuple, list)) else {number}


def _is_turned(node: Node, users: dict[Value, list[Node]]) -> bool:
    made = node.args[0].node
    before = made is not None and made.op == ".transpose" and made.scope == node.scope
    readers = users.get(node.output, [])
    return before or (bool(readers) and all(user.op == ".transpose" for user in readers))
