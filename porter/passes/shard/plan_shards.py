"""Which processes can share a decoder's layers: the heads of attention, and the hidden features between two layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from porter.ir import Frame, Node, Program, Shards, Value
from porter.passes.cache.place_caches import holder_of
from porter.passes.fuse.fuse_attention import ATTENTION
from porter.passes.shard.spread import LINEARS, Whole, spread
from porter.passes.shard.sum_parts import SUMS, sum_parts

GATED = "nn.SwitchGLU"
#: The least part of the layers' weights that is to be divided.
_MOST = 0.5


@dataclass(slots=True)
class Region:
    """Layers whose outputs are divided (`first`, with the segments of a fused one), and those that add up (`last`)."""

    first: dict[Node, int] = field(default_factory=dict)
    last: list[Node] = field(default_factory=list)
    parts: dict[Value, int] = field(default_factory=dict)
    attention: bool = False

    @property
    def nodes(self) -> set[Node]:
        return {*self.first, *self.last}


def plan_shards(program: Program) -> int:
    """Finds what `shard` divides among processes in a decoder with caches. Returns the number of divided layers.

    As in Megatron-LM (Shoeybi et al. 2019): the layers before an attention, or before the activation of an MLP, give each
    process its part of the heads or of the hidden features, and the layer after them adds up over processes. Between them every
    node must treat each part by itself. Experts are divided alike, each one over all processes, and their module adds up.
    """
    attentions = [node for node in program.nodes if node.op in ATTENTION and _is_cached(node)]
    if not program.sights or program.memory is not None or not attentions:
        return 0
    try:
        shards = _plan(program, attentions)
    except Whole as reason:
        program.notes.append(f"no shard: {reason}")
        return 0
    program.shards = shards
    return len(shards.layers)


def undo_shards(program: Program, reason: str) -> int:
    """Takes a plan back, with a note that says why. Returns how many sums over processes went with it."""
    program.notes.append(f"no shard: {reason}")
    program.shards = None
    sums = [node for node in program.nodes if node.op in SUMS]
    program.nodes = [node for node in program.nodes if node not in sums]
    program.replace({node.output: node.args[0] for node in sums})
    return len(sums)


def _plan(program: Program, attentions: list[Node]) -> Shards:
    depth = len(holder_of(attentions)) + 1
    layers: dict[tuple[Frame, ...], list[Node]] = {}
    for node in program.nodes:
        if len(node.scope) >= depth and node.scope[: depth - 1] == attentions[0].scope[: depth - 1]:
            layers.setdefault(node.scope[:depth], []).append(node)
    users, outputs = program.users(), set(program.output_values())
    shards = Shards()
    own = whole = 0
    for nodes in layers.values():
        if not any(node.is_layer and node.params for node in nodes):
            continue
        regions = _regions(nodes, users, outputs)
        gated = [node for node in nodes if node.op == GATED]
        summed = sum_parts(program, nodes, depth, regions, gated)
        for region in regions:
            shards.axes |= region.parts
            for node, segments in region.first.items():
                shards.layers[node] = ("all-to-sharded", segments, node.op != "nn.Linear")
            for node in region.last:
                shards.layers[node] = ("sharded-to-all", 1, node in summed)
        for node in gated:
            if node in summed:
                shards.layers[node] = ("gated", 1, True)
        weights = {node: _size(node) for node in nodes if node.op in (*LINEARS, GATED)}
        own += sum(size for node, size in weights.items() if node in shards.layers)
        whole += sum(weights.values())
    if own < _MOST * whole or not own:
        raise Whole(f"only {100 * own // max(whole, 1)} % of its layers' weights could be divided")
    return shards


def _is_cached(attention: Node) -> bool:
    """Whether it is the decoder's, and not of what encodes pictures."""
    made = attention.args[1].node
    return made is not None and made.op == "update_and_fetch"


def _size(node: Node) -> int:
    return sum(int(prod(value.shape)) for value in node.params.values())


def _regions(
    nodes: list[Node], users: dict[Value, list[Node]], outputs: set[Value]
) -> list[Region]:
    """Raises Whole where an attention is in none."""
    inside, found = set(nodes), list[Region]()
    taken: set[Node] = set()
    reasons: dict[Node, str] = {}
    for node in nodes:
        if node.op not in LINEARS or node in taken:
            continue
        first, attended = _before(node, inside)
        first = {other: 1 for other in nodes if other in first}  # in their order
        if not first or taken & set(first):
            continue
        try:
            region = _divided(nodes, first, users, outputs, inside)
        except Whole as reason:
            reasons |= dict.fromkeys(attended, f"{reason}, at {node.location}")
            continue
        if taken & region.nodes:
            continue
        region.attention = bool(attended)
        taken |= region.nodes
        for other in attended:
            reasons[other] = ""
        found.append(region)
    for node in nodes:
        why = reasons.get(node, "no layer leads to an attention")
        if node.op in ATTENTION and _is_cached(node) and why:
            raise Whole(why)
    return found


def _before(last: Node, inside: set[Node]) -> tuple[dict[Node, int], list[Node]]:
    """The layers that a layer's input is made of, and the attentions on the way."""
    stack, seen = [last.args[0]], set[Value]()
    first: dict[Node, int] = {}
    attended: list[Node] = []
    while stack:
        value = stack.pop()
        node = value.node
        if value in seen or node is None or node not in inside:
            continue
        seen.add(value)
        if node.op in (*LINEARS, GATED):
            first[node] = 1
            continue
        if node.op in ATTENTION:
            attended.append(node)
        stack += node.args[:3] if node.op in ATTENTION else node.inputs()
    return first, attended


def _divided(
    nodes: list[Node], first: dict[Node, int], users: dict[Value, list[Node]], outputs: set[Value], inside: set[Node]
) -> Region:  # fmt: skip
    """Follows the parts that `first` give to the layers that add them up. Raises Whole."""
    region = Region(dict(first))
    if any(node.op == GATED for node in first):
        raise Whole("what experts give is whole")
    parts = {node.output: node.output.rank - 1 for node in first}
    for node in nodes:
        if node in first or not any(value in parts for value in node.inputs()):
            continue
        if node.op in LINEARS:
            if (
                parts.get(node.args[0]) != node.args[0].rank - 1
                or len([v for v in node.inputs() if v in parts]) != 1
            ):
                raise Whole("a layer needs the whole of its input")
            region.last.append(node)
            continue
        fused = node.args[0].node if node.op == "mx.split" else None
        if fused in first and node.args[1] in (2, 3):
            last = node.args[0].rank - 1
            if node.kwargs.get("axis") not in (last, -1) or len(users[node.args[0]]) > 1:
                raise Whole("a fused layer is read as a whole")
            assert fused is not None
            region.first[fused] = node.args[1]
            parts |= dict.fromkeys(node.outputs, last)
            continue
        parts |= spread(node, parts)
    for value in parts:
        if value in outputs or any(user not in inside for user in users.get(value, ())):
            raise Whole("something outside its layer reads it")
    region.parts = parts
    return region
