"""Which cache each attention and state has, and where the list of layers is."""

from __future__ import annotations

from itertools import pairwise

from porter.ir import Frame, Node, Program, Value
from porter.passes.cache.kinds import State, layer_words
from porter.passes.cache.plan import NoCache, Plan, Turn
from porter.passes.factor.roll import list_position
from porter.passes.masks import Sight


def place_caches(program: Program, plan: Plan) -> None:
    """A cache for each attention; with states one for each layer, which has parts where the layer has both."""
    sights = dict(zip(plan.attentions, plan.sights, strict=True))
    owners = owners_of(plan.attentions)
    owned = sorted(set(owners))
    fetching = [node for node, values in plan.fetched.items() if values]
    if fetching and (plan.text.crossed or len(owned) < len(owners)):
        raise NoCache(
            f"the attention at {fetching[0].location} shares a cache, and takes more of all tokens"
        )
    _find_turns(plan)
    if plan.turns:
        _name_kinds(program, plan)
        return
    if not plan.states:
        part = 0 if plan.text.crossed else None  # beside what is kept of the encoder's output
        plan.kinds = [plan.sights[i] for i in owned]
        for node, owner in zip(plan.attentions, owners, strict=True):
            place = owned.index(owner)
            more = plan.fetched.get(node, [])
            plan.places[node] = (place, 0 if more else part)
            plan.kept |= {value: (place, 1 + k) for k, value in enumerate(more)}
            if more:
                plan.kinds[place] = (plan.sights[owner],) * (1 + len(more))
        _name_kinds(program, plan)
        return
    if len(owned) < len(owners):
        raise NoCache("layers beside others with a state share keys and values")
    if plan.text.crossed:
        raise NoCache(f"the state at {plan.states[0].location} stands beside an encoder")
    depth = len(plan.holder)
    layers: dict[Frame, list[Node]] = {}
    kept = {*plan.attentions, *plan.states}
    for node in program.nodes:
        if node in kept:
            if len(node.scope) <= depth:
                raise NoCache(f"{node.op} at {node.location} is in no layer")
            layers.setdefault(node.scope[depth], []).append(node)
    for i, nodes in enumerate(layers.values()):
        own = [node for node in nodes if node in sights]
        count = len(nodes) - len(own)
        parts: list[Sight | State] = [State(count)] * bool(count)
        first: dict[Node, int] = {}
        for node in own:
            first[node] = len(parts)
            more = plan.fetched.get(node, [])
            plan.kept |= {value: (i, len(parts) + 1 + k) for k, value in enumerate(more)}
            parts += [sights[node]] * (1 + len(more))
        plan.kinds.append(parts[0] if len(parts) == 1 else tuple(parts))
        for node in nodes:
            plan.places[node] = (i, None if len(parts) == 1 else first.get(node, 0))
    if len({kind for kind in plan.kinds if isinstance(kind, State)}) > 1:
        raise NoCache("its layers carry different numbers of arrays")
    _name_kinds(program, plan)


def _find_turns(plan: Plan) -> None:
    """Orders the caches by list of layers, turn and layer, where lists lie below the module that every layer is in.

    Such a list may be one of several, and may be gone through several times, with a cache for each.
    """
    depth = len(plan.holder)
    found: dict[str, dict[Frame, list[Node]]] = {}
    for node in (*plan.attentions, *plan.states):
        inner = node.scope[depth:]
        lists = [
            place
            for place, (frame, below) in enumerate(pairwise(inner))
            if list_position(below.path.removeprefix(f"{frame.path}.")) is not None
        ]
        if not lists or _is_item(plan.holder, inner[0]):
            continue  # a list within a layer has the layer's cache
        if lists[0]:
            raise NoCache(f"the layers of {inner[lists[0]].path} are more than a module away")
        found.setdefault(inner[0].path, {}).setdefault(inner[0], []).append(node)
    nodes = [node for turns in found.values() for turn in turns.values() for node in turn]
    if not nodes:
        return
    paths = ", ".join(found)
    if {*nodes} != {*plan.attentions} or len(set(plan.sights)) > 1 or plan.text.crossed:
        raise NoCache(f"the layers of {paths} are not all of one kind")
    if len(set(owners_of(nodes))) < len(nodes) or any(plan.fetched.values()):
        raise NoCache(f"the layers of {paths} share caches, or keep more than keys and values")
    for turn in (turn for turns in found.values() for turn in turns.items()):
        start = len(plan.kinds)
        frame, inside = turn
        plan.kinds += [plan.sights[0]] * len(inside)
        plan.turns |= dict.fromkeys(inside, Turn(frame, start, len(plan.kinds)))
        plan.places |= {node: (start + k, None) for k, node in enumerate(inside)}


def _is_item(holder: tuple[Frame, ...], frame: Frame) -> bool:
    """Whether the call is of a member of a list of the module that holds every layer."""
    outer = f"{holder[-1].path}." if holder and holder[-1].path else ""
    return list_position(frame.path.removeprefix(outer)) is not None


def _name_kinds(program: Program, plan: Plan) -> None:
    plan.words = layer_words(plan.kinds, program.config)
    if len(set(plan.words)) < len(set(plan.kinds)):
        raise NoCache("its layers have caches of more kinds than there are words for")


def assign_crossed(plan: Plan) -> None:
    """Every look at the encoder's output is beside one attention over the tokens, in its layer."""
    plan.crossed = [[] for _ in plan.attentions]
    for node in plan.text.crossed:
        layers = [i for i, own in enumerate(plan.attentions) if is_beside(node, own, plan)]
        if len(layers) != 1:
            raise NoCache(f"the attention at {node.location} stands beside {len(layers)} others")
        plan.crossed[layers[0]].append(node)
    if len({len(nodes) for nodes in plan.crossed}) > 1:
        raise NoCache("only some of its layers look at the encoder's output")


def holder_of(attentions: list[Node]) -> tuple[Frame, ...]:
    """The module calls that every attention is inside of, down to the list of layers."""
    common = list(attentions[0].scope)
    for node in attentions:
        same = [a == b for a, b in zip(common, node.scope, strict=False)]
        common = common[: same.index(False)] if False in same else common[: len(same)]
    for depth, frame in enumerate(common):
        outer = common[depth - 1].path if depth else ""
        if list_position(frame.path.removeprefix(f"{outer}.")) is not None:
            return tuple(common[:depth])
    return tuple(common if len(attentions) > 1 else common[:-1])


def owners_of(attentions: list[Node]) -> list[int]:
    """For each attention the first one with the same keys and values: theirs is the cache that it reads."""
    first: dict[tuple[Value, ...], int] = {}
    return [first.setdefault(tuple(node.args[1:3]), i) for i, node in enumerate(attentions)]


def is_beside(place: Node, attention: Node, plan: Plan) -> bool:
    """Whether the node is in the layer of the attention."""
    depth = len(plan.holder) + 1
    return len(place.scope) >= depth and place.scope[:depth] == attention.scope[:depth]
