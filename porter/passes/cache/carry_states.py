"""What carries a state over the tokens takes it from the cache of its layer, and leaves it there."""

from __future__ import annotations

from porter.ir import Node, Program, Value
from porter.passes.cache.plan import Plan, new_item


def take_parts(plan: Plan, layers: list[Node]) -> tuple[dict[Node, Node], dict[Node, Node]]:
    """What gives the cache of each attention and state in its layer, and what gives it outside of the layers.

    A layer's cache with parts is handed over whole, and taken apart in the layer.
    """
    depth = len(plan.holder) + 1
    inside: dict[tuple[int, int], Node] = {}
    outside: dict[tuple[int, int], Node] = {}
    parts: dict[Node, Node] = {}
    shown: dict[Node, Node] = {}
    for node, (i, part) in plan.places.items():
        if part is None:
            parts[node] = shown[node] = layers[i]
            continue
        if (i, part) not in inside:
            whole = layers[i].output
            inside[i, part] = new_item(whole, part, "cache", node.scope[:depth])
            outside[i, part] = new_item(whole, part, "cache", plan.holder)
        parts[node], shown[node] = inside[i, part], outside[i, part]
    return parts, shown


def carry_states(
    program: Program,
    plan: Plan,
    parts: dict[Node, Node],
    mask: Value,
    after: dict[Node, list[Node]],
    replaced: dict[Value, Value],
) -> None:
    """Functions that carry a state get the cache and the array of it that is theirs; the last of a layer counts the tokens."""
    slots: dict[int, int] = {}
    last: dict[int, Node] = {}
    for node in plan.states:
        layer = plan.places[node][0]
        slot = slots[layer] = slots.get(layer, -1) + 1
        node.args += [parts[node].output, mask]
        if slot != (0 if node.op in ("fn.with_past", "fn.token_before") else 1):
            node.args.append(slot)
        last[layer] = node
    for stateful in last.values():
        node = stateful
        if node.op == "fn.with_past":  # which gives more tokens than came
            node = program.users()[node.output][0]
        advance = Node("cache.advance", [node.output, parts[stateful].output], scope=node.scope)
        advance.location = node.location
        old = node.output
        advance.outputs = [Value(old.shape, old.dtype, advance, old.name)]
        after[node] = [advance]
        replaced[old] = advance.output
