"""What carries a state over the tokens takes it from the cache of its layer, and leaves it there."""

from __future__ import annotations

from porter.ir import Frame, Node, Program, Value
from porter.passes.cache.plan import NoCache, Plan, Turn, new_item


def take_parts(
    plan: Plan, layers: list[Node], turns: dict[Turn, Node]
) -> tuple[dict[Node, Node], dict[Node, Node], dict[Value, Node]]:
    """What gives the cache of each attention and state in its layer, what gives it outside of the layers, and what gives that
    of the features of keys in the layer.

    A layer's cache with parts is handed over whole, and taken apart in the layer; so are those of a turn through a list.
    """
    depth = len(plan.holder) + 1
    inside: dict[tuple[int, int], Node] = {}
    outside: dict[tuple[int, int], Node] = {}
    parts: dict[Node, Node] = {}
    shown: dict[Node, Node] = {}
    for node, (i, part) in plan.places.items():
        if part is None:
            parts[node] = shown[node] = layers[i]
            if node in plan.turns:
                turn = plan.turns[node]
                own = turns[turn].output
                parts[node] = new_item(own, i - turn.start, "cache", node.scope[:depth])
            continue
        if (i, part) not in inside:
            whole = layers[i].output
            inside[i, part] = new_item(whole, part, "cache", node.scope[:depth])
            outside[i, part] = new_item(whole, part, "cache", plan.holder)
        parts[node], shown[node] = inside[i, part], outside[i, part]
    kept: dict[Value, Node] = {}
    for node, values in plan.fetched.items():
        for value in values:
            i, part = plan.kept[value]
            kept[value] = new_item(layers[i].output, part, "cache", node.scope[:depth])
            kept[value].output.name = "token_cache"
    return parts, shown, kept


def carry_states(
    program: Program,
    plan: Plan,
    parts: dict[Node, Node],
    mask: Value,
    after: dict[Node, list[Node]],
    replaced: dict[Value, Value],
) -> None:
    """Functions that carry a state get the cache and the array of it that is theirs; the last of a layer counts the tokens."""
    carrying: dict[int, list[Node]] = {}
    for node in plan.states:
        carrying.setdefault(plan.places[node][0], []).append(node)
    ends = [_end(program, plan, nodes) for nodes in carrying.values()]
    for nodes, (end, scope) in zip(carrying.values(), ends, strict=True):
        for slot, node in enumerate(nodes):
            node.args += [parts[node].output, mask]
            if slot != (0 if node.op in ("fn.with_past", "fn.token_before") else 1):
                node.args.append(slot)
        old = end.output
        advance = Node("cache.advance", [old, parts[nodes[-1]].output], scope=scope)
        advance.location = end.location
        advance.outputs = [Value(old.shape, old.dtype, advance, old.name)]
        after[end] = [advance]
        replaced[old] = advance.output


def _end(program: Program, plan: Plan, states: list[Node]) -> tuple[Node, tuple[Frame, ...]]:
    """What comes after the last of a layer's states with a row for each token, and where that is known.

    States of several modules, which may be of one class, end with their layer.
    """
    node, shape = states[-1], plan.text.ids.shape
    if len({other.scope for other in states}) == 1:
        users = program.users()
        while node.output.shape[:2] != shape:  # more tokens than came
            node = users[node.output][0]
        return node, node.scope
    layer = node.scope[: len(plan.holder) + 1]
    inside = [other for other in program.nodes if other.scope[: len(layer)] == layer]
    read = {v for other in program.nodes if other not in set(inside) for v in other.inputs()}
    read.update(program.output_values())
    ends = [
        other for other in inside if other.outputs[0] in read and other.output.shape[:2] == shape
    ]
    if not ends:
        raise NoCache(f"the layer of {node.op} at {node.location} ends in no array of tokens")
    return ends[-1], layer
