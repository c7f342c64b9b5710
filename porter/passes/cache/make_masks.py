"""The masks of a decoder with caches: those that mlx-lm makes, and what a model adds to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import sympy

from porter.ir import Frame, Node, Program, Value
from porter.passes.cache.check_pairs import has_weights
from porter.passes.cache.lift_pairs import LiftPairs
from porter.passes.cache.plan import NoCache, NotLifted, Plan, new_node
from porter.passes.fuse.fuse_attention import SDPA
from porter.passes.masks import Sight

Offset = Callable[[int, tuple[Frame, ...], Node], Value]


def find_pairs(program: Program, plan: Plan) -> None:
    """What is taken of queries and keys for the rest of the masks. Raises NoCache for what can't be lifted."""
    biases = _Biases(program, plan, {}, {})
    done: set[tuple[Sight, Value]] = set()
    for node, sight, bias in zip(plan.attentions, plan.sights, plan.biases, strict=True):
        if bias is None or bias not in plan.text.depends or (sight, bias) in done:
            continue
        done.add((sight, bias))
        lift = biases.lift_of(Value((), "mask"), sight, Value((), "int32"), node, node.scope)
        before = len(lift.own), len(lift.fetched)
        biases.lifted(lift, bias, node, node.scope)
        plan.own[node] = list(lift.own)[before[0] :]
        plan.fetched[node] = list(lift.fetched)[before[1] :]


def make_masks(
    program: Program,
    plan: Plan,
    items: list[Node],
    kept: dict[Value, Node],
    before: dict[Node, list[Node]],
    offset: Offset,
) -> list[Value]:
    """The mask of each attention: one for each way of looking back, made where all layers get theirs.

    What is written goes to `before`, by the node that it stands in front of; `kept` has the caches of features of keys.
    """
    first, hidden = first_layer(program, plan)
    several = len(set(plan.sights)) > 1
    shown: dict[Sight, Value] = {}
    biased: dict[tuple[Sight, Value], Value] = {}
    biases = _Biases(program, plan, kept, before)
    widened: dict[tuple[Sight, Value], Value] = {}
    found = []
    for i, (sight, bias) in enumerate(zip(plan.sights, plan.biases, strict=True)):
        if sight not in shown:
            name = "mask"
            if several and (sight.window or sight.chunk):
                name = "sliding_mask" if sight.window else "chunked_mask"
            node = new_node(
                "create_attention_mask", [hidden, items[i].output], "mask", name, plan.holder, first
            )
            word = plan.words[plan.places[plan.attentions[i]][0]]
            # a cache that moved on would give another mask
            node.attrs = {
                "sight": sight,
                "array": _needs_array(plan, sight),
                "word": word,
                "early": True,
            }
            source = plan.attentions[i].kwargs.get("mask")
            node.output.origin = source.origin if isinstance(source, Value) else None
            before.setdefault(first, []).append(node)
            shown[sight] = node.output
            if sight.chunk is not None:
                start = offset(i, plan.holder, first)
                length = plan.text.ids.shape[1]
                args = [node.output, start, length, sight.chunk]
                node = new_node("fn.chunked_mask", args, "mask", name, plan.holder, first)
                node.attrs = {"sight": sight, "word": word}
                before[first].append(node)
                shown[sight] = node.output
        wider = plan.wider[i]
        if wider is not None and (sight, wider) not in widened:
            made = shown[sight].node
            assert made is not None
            args = [made.output, wider]
            node = new_node("fn.widened_mask", args, "mask", made.output.name, plan.holder, first)
            node.attrs = {"word": made.attrs["word"], "given": plan.pictures}
            before[first].append(node)
            widened[sight, wider] = node.output
        if bias is None:
            found.append(shown[sight] if wider is None else widened[sight, wider])
            continue
        attention, place, scope = plan.attentions[i], first, plan.holder
        if bias in plan.text.depends or has_weights(
            bias
        ):  # it is made, or a table looked up, there
            place, scope = attention, attention.scope
        if (sight, bias) not in biased:
            start = offset(
                i, scope, next(n for n in program.nodes if n.scope[: len(scope)] == scope)
            )
            x = hidden if place is first else attention.args[0]
            biased[sight, bias] = biases(shown[sight], sight, bias, start, x, place, scope)
        found.append(biased[sight, bias])
    if biased:
        program.dims[biases.keys] = ("keys", program.dims[biases.length][1])
    return found


def make_state_mask(
    program: Program, plan: Plan, item: Node, before: dict[Node, list[Node]]
) -> Value:
    """The mask that tells tokens from padding, for what carries a state; `item` is the first cache with one."""
    first, hidden = first_layer(program, plan)
    name = "state_mask" if plan.attentions else "mask"
    node = new_node("create_ssm_mask", [hidden, item.output], "mask", name, plan.holder, first)
    node.attrs = {"word": plan.words[plan.places[plan.states[0]][0]]}
    before.setdefault(first, []).append(node)
    return node.output


def _needs_array(plan: Plan, sight: Sight) -> bool:
    """Whether something reads the mask that takes no "causal"."""
    every = zip(plan.attentions, plan.sights, plan.biases, plan.wider, strict=True)
    return sight.chunk is not None or any(
        a.op != SDPA or bias is not None or wider is not None
        for a, other, bias, wider in every
        if other == sight
    )


class _Biases:
    """Writes biases for the keys of a cache; one row of positions serves all of a scope."""

    def __init__(
        self, program: Program, plan: Plan, kept: dict[Value, Node], before: dict[Node, list[Node]]
    ):
        self.program, self.plan, self.kept, self.before = program, plan, kept, before
        self.length: sympy.Symbol = plan.text.length
        self.keys = sympy.Symbol("keys", integer=True, positive=True)
        self.lifts: dict[tuple[Sight, tuple[Frame, ...]], LiftPairs] = {}

    def lift_of(
        self, mask: Value, sight: Sight, start: Value, place: Node, scope: tuple[Frame, ...]
    ) -> LiftPairs:
        if (sight, scope) not in self.lifts:
            counted = new_node("key_positions", [mask, start, self.length], "int32", "positions", scope, place)  # fmt: skip
            counted.output.shape = (self.keys,)
            queries = new_node("[]", [counted.output], "int32", None, scope, place)
            queries.attrs = {"key": (slice(-self.length, None),)}
            queries.output.shape = (self.length,)
            self.before.setdefault(place, []).extend([counted, queries])
            self.lifts[sight, scope] = LiftPairs(
                self.program, self.plan, self.keys, sight, mask, counted.output, queries.output
            )
        return self.lifts[sight, scope]

    def lifted(
        self, lift: LiftPairs, bias: Value, place: Node, scope: tuple[Frame, ...]
    ) -> tuple[list[Node], Value]:
        """The nodes that make the bias, and it."""
        try:
            result = lift.lift(bias, scope)
        except NotLifted as reason:
            raise NoCache(f"the mask at {place.location} can't be made for a cache: {reason}") from reason  # fmt: skip
        nodes, lift.nodes = lift.nodes, []
        return nodes, result

    def __call__(
        self, mask: Value, sight: Sight, bias: Value, start: Value, x: Value, place: Node, scope: tuple[Frame, ...]
    ) -> Value:  # fmt: skip
        lift = self.lift_of(mask, sight, start, place, scope)
        made, lifted = self.lifted(lift, bias, place, scope)
        for value, fetched in lift.fetched.items():
            assert fetched.node is not None
            fetched.node.args[1] = self.kept[value].output
        if lifted.dtype == "bool":
            joined = new_node("fn.narrowed_mask", [mask, lifted], "mask", "mask", scope, place)
        else:
            joined = new_node("fn.biased_mask", [mask, lifted, x], "mask", "mask", scope, place)
        self.before.setdefault(place, []).extend([*made, joined])
        return joined.output


def first_layer(program: Program, plan: Plan) -> tuple[Node, Value]:
    """The first node of the first layer, and the array (batch, length, ...) that the layer reads."""
    depth = len(plan.holder) + 1
    layer = next(iter(plan.places)).scope[:depth]
    inside = [n for n in program.nodes if n.scope[:depth] == layer]
    written = {value for node in inside for value in node.outputs}
    shape = plan.text.ids.shape
    for node in inside:
        for value in _arrays(node):
            if value not in written and value.rank > 2 and value.shape[:2] == shape:
                while value.node in plan.passing:
                    value = plan.passing[value.node]
                return inside[0], value
    return inside[0], plan.text.ids


def _arrays(node: Node) -> Iterator[Value]:
    return (value for value in node.inputs() if not value.is_parameter)
