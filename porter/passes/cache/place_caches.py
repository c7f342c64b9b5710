"""Which cache each attention and state has, and where the list of layers is."""

from __future__ import annotations

from itertools import pairwise

from porter.ir import Frame, Node, Program, Value
from porter.passes.cache.kinds import State, layer_words
from porter.passes.cache.plan import NoCache, Plan
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
    _refuse_repeated_lists(plan)
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


def _refuse_repeated_lists(plan: Plan) -> None:
    """A list of layers that is gone through several times would need a cache for each time."""
    first: dict[str, Frame] = {}
    for node in (*plan.attentions, *plan.states):
        inner = node.scope[len(plan.holder) :]
        for frame, below in pairwise(inner):
            is_list = list_position(below.path.removeprefix(f"{frame.path}.")) is not None
            if is_list and first.setdefault(frame.path, frame) != frame:
                raise NoCache(f"the layers of {frame.path} are gone through several times")


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
