"""Convolutions that are products: of single points that mix tokens or heads, and of patches that come as rows."""

from __future__ import annotations

from math import prod

from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.lowering.axes import channels_first, channels_last
from porter.lowering.parameters import permuted, reshaped
from porter.passes.cleanup import remove_dead
from porter.passes.factor.layer_names import layer_path
from porter.passes.fuse.match import producer

_CONVOLUTIONS = ("nn.Conv1d", "nn.Conv2d", "nn.Conv3d")


def _calls(program: Program) -> list[list[Node]]:
    """The calls of each convolution."""
    calls: dict[str, list[Node]] = {}
    for node in program.nodes:
        if node.op in _CONVOLUTIONS:
            calls.setdefault(layer_path(node), []).append(node)
    return list(calls.values())


def linearize_points(program: Program) -> int:
    """A 1x1 convolution beside a transpose becomes nn.Linear, which is what it is on tokens. Returns how many.

    Beside other maps it stays a convolution, and so it does where the same layer is called elsewhere without a transpose.
    """
    users = program.users()
    count = 0
    for nodes in _calls(program):
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


def linearize_patches(program: Program) -> int:
    """A convolution with one window, of rows that were given channels, height and width for it, becomes nn.Linear of
    the rows. Returns how many.

    So patches that a processor has cut out need no transpose. A layer that also sees maps stays a convolution.
    """
    count = 0
    for nodes in _calls(program):
        rows = [row for node in nodes if (row := _rows(node)) is not None]
        if len(rows) < len(nodes):
            continue
        for node, row in zip(nodes, rows, strict=True):
            _linearize(program, node, row)
            count += 1
    if count:
        remove_dead(program)
    return count


def _rows(node: Node) -> Value | None:
    """The array whose rows are the samples that the convolution sees whole."""
    turned = producer(node.args[0], ".transpose")
    split = producer(turned.args[0], ".reshape") if turned is not None else None
    if turned is None or split is None:
        return None
    rows, seen = split.args[0], split.output.shape
    weight = node.params["weight"]
    fits = (
        tuple(turned.args[1:]) == channels_last(len(seen))
        and rows.shape[-1] == prod(seen[1:])
        and tuple(weight.shape[1:]) == (*seen[2:], seen[1])
        and _single(node.attrs.get("padding", 0)) == {0}
        and _single(node.attrs.get("dilation", 1)) == {1}
    )
    return rows if fits else None


def _linearize(program: Program, node: Node, rows: Value) -> None:
    weight = node.params["weight"]
    width = prod(weight.shape[1:])
    flat = reshaped(permuted(weight, channels_first(weight.rank)), (weight.shape[0], width))
    build = Builder(node.scope, node.location)
    product = build.layer(
        "nn.Linear",
        build.reshape(rows, (node.output.shape[0], width)),
        {**node.params, "weight": flat},
        (node.output.shape[0], weight.shape[0]),
        input_dims=width,
        output_dims=weight.shape[0],
        bias="bias" in node.params,
    )
    old = node.output
    turned = build.reshape(product, old.shape)
    place = program.nodes.index(node)
    readers = program.users().get(old, [])
    program.nodes[place : place + 1] = build.nodes
    program.replace({old: turned})
    for reader in readers:  # the axes of one that are moved back
        if reader.op == ".transpose":
            reader.op, reader.args = ".reshape", [product, *reader.output.shape]
