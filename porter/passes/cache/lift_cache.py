"""A key and value cache for the stateless forward of a causal language model."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import sympy

from porter.ir import Frame, Node, Program, Value
from porter.ir.evaluate import Unknown
from porter.passes.cache.carry_states import carry_states, take_parts
from porter.passes.cache.divide_mask import divide_mask
from porter.passes.cache.find_memory import find_memory, name_memory
from porter.passes.cache.find_padding import PADDING, compared_words, find_padding, unpadded
from porter.passes.cache.find_pictures import Pictures, find_pictures
from porter.passes.cache.find_shown import drop_guards, find_shown, shows_all
from porter.passes.cache.find_text import Text, find_text
from porter.passes.cache.make_masks import find_pairs, first_layer, make_masks, make_state_mask
from porter.passes.cache.place_caches import (
    assign_crossed,
    holder_of,
    is_beside,
    owners_of,
    place_caches,
)
from porter.passes.cache.plan import NoCache, Plan, new_item, new_node, new_slice
from porter.passes.cache.tokenwise import COUNTING, STATEFUL, mixes_tokens
from porter.passes.cache.widen_positions import widen_positions
from porter.passes.cleanup import remove_dead, share_equal, written_first
from porter.passes.fuse.fuse_attention import ATTENTION, SDPA
from porter.passes.masks import Sight
from porter.passes.positions import as_array, at_length, length_symbol, position_values

_PREFIX = (
    "all tokens of a call that has pictures see each other; those of a call without any see the ones before them, "
    "which is what is written behind a prompt"
)


def lift_cache(program: Program) -> int:
    """Gives a causal language model the argument `cache`, as mlx-lm's models have it. Returns the number of caches.

    What is needed: token ids in, logits of every token out, attention that is causal, and everything else token by token.
    Then keys and values go through `cache.update_and_fetch`, positions start at `cache.offset`, masks come from
    `create_attention_mask`, and what carries a state takes it from the cache and leaves it there. Where tokens look at an
    encoder's output too, its keys and values are made once and kept. Pictures in a text come with the call that has their
    tokens. A causal model that does anything else keeps its plain forward, and a note says why.
    """
    text = find_text(program)
    if text is None or not (text.crossed or len(program.outputs) == 1):
        _note_outputs(program)
        return 0
    if not text.own and not any(node.op in STATEFUL for node in program.nodes):
        program.notes.append("no cache: no attention was found whose keys and values it could keep")
        return 0
    widen_positions(program, text.length)
    try:
        if program.longest is not None and text.length is length_symbol(program):
            raise NoCache(f"with more than {program.longest} tokens the source goes another way")
        text = find_text(program) or text
        pictures = None if text.crossed else find_pictures(program, text)
        plan = _plan(program, text, pictures)
        if plan is None:
            return 0
        _rewrite(program, plan)
        if pictures is not None:
            for merge in pictures.merges:
                merge.attrs = {"given": pictures.name}
    except NoCache as reason:
        program.notes.append(f"no cache: {reason}")
        return 0
    remove_dead(program)
    share_equal(program)
    program.sights, program.layer_words = plan.kinds, plan.words
    program.memory = plan.memory
    return len(plan.kinds)


def _note_outputs(program: Program) -> None:
    """Says of a model with logits and more that mlx-lm takes logits alone."""
    others = [name for name, _ in program.outputs if name != "logits"]
    reads_text = any(v.rank == 2 and v.dtype.startswith("int") for v in program.inputs)
    if reads_text and 0 < len(others) < len(program.outputs):
        program.notes.append(
            f"no cache: the model returns {', '.join(others)} beside its logits, and mlx-lm takes logits alone: "
            "port a module that returns just these"
        )


def _plan(program: Program, text: Text, pictures: Pictures | None) -> Plan | None:
    """What is to be written; what is made for pictures alone may look at all tokens of the call that has them."""
    known: dict[Any, tuple[Sight, Value | None] | None] = {}
    wider: dict[Any, Value] = {}
    for node in text.own:
        mask = node.kwargs.get("mask")
        if mask in known:
            continue
        ahead = find_shown(program, mask, text) if pictures else None
        if ahead is None:
            known[mask] = divide_mask(program, mask) or unpadded(program, mask, text)
        else:
            known[mask], wider[mask] = (ahead[0], None), ahead[1]
    if text.own and not any(known.values()) and not text.crossed:
        return None  # no decoder
    found = []
    for node in text.own:
        parts = known[node.kwargs.get("mask")]
        if parts is None:
            raise NoCache(f"the mask of the attention at {node.location} is no causal one")
        if any(x.rank != 4 or x.shape[2] != text.length for x in node.args[:3]):
            raise NoCache(f"the attention at {node.location} runs over other things than tokens")
        if any(x.shape[0] != text.ids.shape[0] for x in node.args[:3]):
            raise NoCache(f"the attention at {node.location} has samples and heads on one axis")
        found.append(parts)
    states = [node for node in program.nodes if node.op in STATEFUL]
    holder = holder_of([*text.own, *text.crossed, *states])
    sights, biases = [s for s, _ in found], [bias for _, bias in found]
    plan = Plan(text, text.own, sights, biases, holder, states)
    plan.wider = [wider.get(node.kwargs.get("mask")) for node in text.own]
    plan.pictures = pictures.name if pictures else None
    _find_guards(program, plan)
    plan.passing = find_padding(program, compared_words(program, text.ids))
    if plan.passing:
        program.notes.append(PADDING)
    plan.passing |= drop_guards(program, set(wider.values()))
    find_pairs(program, plan)
    place_caches(program, plan)
    if len(set(sights)) > 2:
        raise NoCache("its layers look back in more than two ways")
    assign_crossed(plan)
    once = pictures.alone if pictures else set()
    live = [node for node in _live(program, plan) if node not in once]
    _claim_ropes(plan, live)
    _find_counts(program, plan, live, text.length)
    if text.crossed:
        plan.memory = find_memory(program, text, holder, len(plan.crossed[0]))
    if plan.counts and not text.own:
        place = program.users()[next(iter(plan.counts))][0]
        raise NoCache(f"positions are read at {place.location}, and a cache of states has none")
    return plan


def _find_guards(program: Program, plan: Plan) -> None:
    """What asks whether a query sees any key, of a mask that tokens bear on, is asked of the mask with a cache too."""
    biases = zip(plan.attentions, plan.biases, strict=True)
    masks = {
        node.kwargs["mask"]: i
        for i, (node, bias) in enumerate(biases)
        if bias is not None and bias in plan.text.depends and bias.dtype == "bool"
    }
    for node in program.nodes:
        if node.op == "mx.any" and node.args[0] in masks:
            plan.guards[node] = masks[node.args[0]]


def _live(program: Program, plan: Plan) -> list[Node]:
    """The nodes that are left when masks come from the cache."""
    wanted = {plan.text.logits} if plan.text.crossed else set(program.output_values())
    masked = set(plan.attentions)
    found = []
    for node in reversed(program.nodes):
        if node not in plan.guards and any(value in wanted for value in node.outputs):
            found.append(node)
            if node in plan.passing:
                wanted.add(plan.passing[node])
            else:
                wanted.update(_read(node, plan) if node in masked else node.inputs())
    return found[::-1]


def _read(attention: Node, plan: Plan) -> list[Value]:
    """What an attention reads, its mask apart but for what of the tokens the mask is made of."""
    return [*attention.args[:3], *plan.own.get(attention, []), *plan.fetched.get(attention, [])]


def _claim_ropes(plan: Plan, live: list[Node]) -> None:
    """Every rotation belongs to the one attention that its result goes to."""
    for i, attention in enumerate(plan.attentions):
        stack = _read(attention, plan)
        seen: set[Value] = set()
        while stack:
            value = stack.pop()
            node = value.node
            if node is None or value in seen or node.op in ATTENTION:
                continue
            seen.add(value)
            if node.op == "nn.RoPE":
                plan.ropes.setdefault(node, i)
            if len(node.scope) > len(plan.holder):
                stack += node.inputs()
    lost = [n for n in live if n.op == "nn.RoPE" and n not in plan.ropes and _moves(n, plan)]
    if lost:
        raise NoCache(f"the rotation at {lost[0].location} belongs to no attention")


def _moves(node: Node, plan: Plan) -> bool:
    """Whether the node sees the tokens, or how many there are."""
    arrays = [*node.inputs(), *node.outputs]
    long = any(plan.text.length in getattr(n, "free_symbols", ()) for v in arrays for n in v.shape)
    return long or any(value in plan.text.depends for value in arrays)


def _find_counts(program: Program, plan: Plan, live: list[Node], length: sympy.Symbol) -> None:
    """Positions that the model reads, and the check that nothing but attention looks at other tokens."""
    known: dict[Value, bool] = {}
    words, plain = compared_words(program, plan.text.ids), position_values(program)
    positions = {v for v in position_values(program, words) if _counts(v, length, known)}
    stack: list[Value] = []
    own, crossed = set(plan.attentions), set(plan.text.crossed)
    for node in live:
        if node in plan.passing:
            continue
        if node.outputs[0] in positions or (crossed and not _moves(node, plan)):
            continue
        read = _read(node, plan) if node in own else list(node.inputs())
        stack += [v for v in read if v in positions]
        if (
            node not in own
            and node not in crossed
            and (reason := mixes_tokens(node, length)) is not None
        ):
            raise NoCache(f"{reason} at {node.location}")
    seen: set[Value] = set()
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        start = _start(program, value, words)
        if start is not None:
            plan.counts[value] = start
            if value not in plain:
                program.notes.append(PADDING)
            continue
        if value in words:
            continue  # which stands as it is
        maker = value.node
        if maker is None:
            raise NoCache(f"{value!r} has a fixed number of positions")
        if (reason := mixes_tokens(maker, length)) is not None:
            raise NoCache(f"{reason} at {maker.location}")
        stack += [v for v in maker.inputs() if v in positions]


def _counts(value: Value, length: sympy.Symbol, known: dict[Value, bool]) -> bool:
    """Whether the number of tokens bears on the value: in its shape, or in what it is made from."""
    if value not in known:
        known[value] = any(length in getattr(size, "free_symbols", ()) for size in value.shape)
        if not known[value] and value.node is not None:
            known[value] = any(_counts(v, length, known) for v in value.node.inputs())
    return known[value]


def _start(program: Program, value: Value, words: set[Value]) -> int | None:
    """s, where a whole-number value of shape (1, length) or (batch, length) holds s, s + 1, ... in every row.

    Padding is the cache's business: no token is taken for it.
    """
    if value.rank != 2 or not value.dtype.startswith("int"):
        return None
    try:
        rows = []
        for n in (6, 9):
            known = dict.fromkeys(words, mx.ones((2, n), dtype=mx.bool_))
            rows.append(as_array(at_length(program, n, known)(value)))
    except (Unknown, ValueError):
        return None
    start = int(rows[0].flat[0])
    even = all(
        np.array_equal(r, np.broadcast_to(start + np.arange(r.shape[1]), r.shape)) for r in rows
    )
    return start if even and start >= 0 else None


# --- rewrite


def _rewrite(program: Program, plan: Plan) -> None:
    """Raises NoCache before anything is changed."""
    caches = Value((), "caches", name="cache", origin="cache")
    owners = owners_of(plan.attentions)
    owned = sorted(set(owners))
    if plan.memory is not None and len(owned) < len(owners):
        raise NoCache("layers beside an encoder share keys and values")
    kind = "cache" if plan.memory is None else "layer_cache"
    layers = [new_item(caches, i, kind, plan.holder) for i in range(len(plan.kinds))]
    if plan.memory is not None:
        name_memory(plan.text, plan.memory)
    turns = {turn: new_slice(caches, turn, plan.holder) for turn in plan.turns.values()}
    parts, shown, kept = take_parts(plan, layers, turns)
    first = list(
        dict.fromkeys([*layers, *turns.values(), *shown.values(), *parts.values(), *kept.values()])
    )
    before: dict[Node, list[Node]] = {}
    after: dict[Node, list[Node]] = {}
    replaced = {node.output: kept for node, kept in plan.passing.items()}
    for mask in dict.fromkeys(wider for wider in plan.wider if wider is not None):
        if shows_all(program, mask, plan.text):
            assert mask.node is not None
            mask.shape = (plan.text.length, plan.text.length)
            made = Node("mx.ones", [mask.shape], {"dtype": "bool"}, scope=mask.node.scope)
            mask.node.op, mask.node.args, mask.node.kwargs = made.op, made.args, made.kwargs
            mask.node.attrs = {}
            program.notes.append(_PREFIX)
        mask.name = "shown"
    offsets: dict[tuple[int, tuple[Frame, ...]], Value] = {}

    def offset(i: int, scope: tuple[Frame, ...], place: Node) -> Value:
        if (i, scope) not in offsets:
            own = parts[plan.attentions[i]]
            if scope[: len(own.scope)] != own.scope:
                own = shown[plan.attentions[i]]
            node = new_node("cache.offset", [own.output], "int32", "offset", scope, place)
            before.setdefault(place, []).append(node)
            offsets[i, scope] = node.output
        return offsets[i, scope]

    masks = make_masks(program, plan, [shown[a] for a in plan.attentions], kept, before, offset)
    if plan.states:
        mask = make_state_mask(program, plan, shown[plan.states[0]], before)
        carry_states(program, plan, parts, mask, after, replaced)
    _count_on(program, caches, first)
    program.inputs.append(caches)
    order = {node: k for k, node in enumerate(program.nodes)}
    for rope, i in sorted(plan.ropes.items(), key=lambda pair: order[pair[0]]):
        if owners[i] == i:
            rope.kwargs["offset"] = offset(i, rope.scope, rope)
        else:  # the layer before has moved its cache on
            early = offset(owners[i], plan.holder, first_layer(program, plan)[0])
            rope.kwargs["offset"] = early
            assert early.node is not None
            early.node.attrs = {"early": True}  # where it stands, not where it is read
    updates: dict[int, Node] = {}
    for i, attention in enumerate(plan.attentions):
        cache = parts[attention].output
        if owners[i] == i:
            updates[i] = _fetch(attention, cache, before)
        else:
            attention.args = [attention.args[0], *updates[owners[i]].outputs]
        for k, node in enumerate(plan.crossed[i]):
            whole = layers[plan.places[attention][0]].output
            beside = new_item(whole, 1 + k, "cache", parts[attention].scope)
            first.append(beside)
            _fetch(node, beside.output, before).attrs = {"once": True}
        attention.kwargs["mask"] = masks[i]
        if attention.op == SDPA:
            attention.kwargs = {"cache": cache, **attention.kwargs}
    for guard, i in plan.guards.items():
        guard.args[0] = masks[i]
    for value, start in plan.counts.items():
        place = min((u for u in program.users().get(value, [])), key=order.__getitem__)
        layer = next((i for i, a in enumerate(plan.attentions) if is_beside(place, a, plan)), None)
        scope = place.scope
        if layer is None and scope[: len(plan.holder)] == plan.holder:
            scope = plan.holder  # where the ids' shape can be read
        read = offset(layer or 0, scope, place)
        new = new_node("positions", [read, value.shape[1]], value.dtype, value.name, scope, place)
        new.outputs[0].shape = (1, value.shape[1])
        written = [new]
        if start:
            written.append(
                new_node("+", [new.output, start], value.dtype, value.name, scope, place)
            )
            written[-1].outputs[0].shape = new.output.shape
        before.setdefault(place, []).extend(written)
        replaced[value] = written[-1].output
    program.replace(replaced)
    nodes = list(first)
    for node in program.nodes:
        nodes += [*before.get(node, []), node, *after.get(node, [])]
    program.nodes = written_first(nodes)


def _count_on(program: Program, caches: Value, first: list[Node]) -> None:
    """What counts positions by the tokens goes on from a cache of its own, the last of the list."""
    counting = [node for node in program.nodes if node.op in COUNTING]
    if len(counting) > 1:
        raise NoCache("positions are counted in more than one way")
    for node in counting:
        last = new_node("cache.last", [caches], "cache", "cache", node.scope, node)
        first.append(last)
        node.args.append(last.output)
    program.counting = len(counting)


def _fetch(attention: Node, cache: Value, before: dict[Node, list[Node]]) -> Node:
    """Takes the attention's keys and values through the cache."""
    update = Node("update_and_fetch", [*attention.args[1:3], cache], scope=attention.scope)
    update.location = attention.location
    update.outputs = [Value(v.shape, v.dtype, update, v.name) for v in attention.args[1:3]]
    before.setdefault(attention, []).append(update)
    attention.args = [attention.args[0], *update.outputs]
    return update
