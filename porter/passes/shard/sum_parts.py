"""Experts leave each process a summand of the result: their module adds up, once for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.ir import Frame, Node, Program, Value
from porter.passes.shard.spread import keeps_sum

if TYPE_CHECKING:
    from porter.passes.shard.plan_shards import Region

#: The nodes that add up over processes, forwards and backwards.
SUMS = ("all_sum", "sum_gradients")


def sum_parts(
    program: Program, nodes: list[Node], depth: int, regions: list[Region], gated: list[Node]
) -> set[Node]:
    """Writes the sum over processes at the end of the module of each experts' layer, and returns the layers that it is for.

    `nodes` are those of a decoder's layer, whose own modules begin at `depth`. Where no module gives just what would be summed
    the experts stay whole. A shared expert beside them is summed with them.
    """
    routed = [n for n in gated if not n.attrs["bias"]]
    routed += [n for region in regions for n in region.last if n.op == "nn.SwitchLinear"]
    summed: set[Node] = set()
    for node in routed:
        if node in summed:
            continue
        for length in range(depth + 1, len(node.scope) + 1):
            found = _module(program, nodes, node.scope[:length], regions, routed)
            if found is not None:
                summed |= found
                break
    for region in list(regions):
        if any(
            n.op == "nn.SwitchLinear" and n not in summed for n in region.nodes - set(region.first)
        ):
            regions.remove(region)
    return summed


def _module(
    program: Program, nodes: list[Node], scope: tuple[Frame, ...], regions: list[Region], routed: list[Node]
) -> set[Node] | None:  # fmt: skip
    """The layers of one module's call that leave summands, if its output is their sum; which is then written."""
    inner = [node for node in nodes if node.scope[: len(scope)] == scope]
    inside = set(inner)
    last = {n for region in regions if region.nodes <= inside for n in region.last}
    last |= {n for n in routed if n in inside}
    if any(n.op != "nn.SwitchGLU" and n.attrs.get("bias") for n in last):
        return None  # which every process would add
    partial = {n.output for n in last}
    for node in inner:
        if (
            node not in last
            and any(v in partial for v in node.inputs())
            and keeps_sum(node, partial)
        ):
            partial.update(node.outputs)
        elif node not in last and any(v in partial for v in node.inputs()):
            return None
    written = {v for node in inner for v in node.outputs}
    users, outputs = program.users(), set(program.output_values())
    given = [v for v in written if v in outputs or any(u not in inside for u in users.get(v, ()))]
    read = {v for node in inner for v in node.inputs() if v not in written and not v.is_parameter}
    taken = [v for v in read if v.dtype.startswith(("float", "bfloat"))]
    if len(given) != 1 or given[0] not in partial or len(taken) != 1:
        return None
    _write(program, inner, scope, taken[0], given[0])
    return last


def _write(
    program: Program, inner: list[Node], scope: tuple[Frame, ...], x: Value, y: Value
) -> None:
    """Gradients are summed where the module starts, results where it ends."""

    def node(op: str, value: Value) -> Node:
        made = Node(op, [value], scope=scope, location=inner[-1].location)
        made.outputs = [Value(value.shape, value.dtype, made, value.name)]
        made.output.origin, made.output.permute = value.origin, value.permute
        return made

    start, end = node("sum_gradients", x), node("all_sum", y)
    inside = set(inner)
    for reader in program.nodes:
        if reader in inside:
            reader.replace_inputs(lambda v: start.output if v is x else v)
        else:
            reader.replace_inputs(lambda v: end.output if v is y else v)
    program.outputs = [(name, end.output if v is y else v) for name, v in program.outputs]
    places = [k for k, other in enumerate(program.nodes) if other in inside]
    program.nodes.insert(places[-1] + 1, end)
    program.nodes.insert(places[0], start)
