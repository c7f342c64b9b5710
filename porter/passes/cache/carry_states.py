"""What carries a state over the tokens takes it from the cache of its layer, and leaves it there."""

from __future__ import annotations

from porter.ir import Node, Program, Value
from porter.passes.cache.plan import NoCache, Plan, new_item


def take_parts(
    plan: Plan, layers: list[Node]
) -> tuple[dict[Node, Node], dict[Node, Node], dict[Value, Node]]:
    """What gives the cache of each attention and state in its layer, what gives it outside of the layers, and what gives that
    of the features of keys in the layer.

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
        nodes = carrying.setdefault(plan.places[node][0], [])
        slot = len(nodes)
        nodes.append(node)
        node.args += [parts[node].output, mask]
        if slot != (0 if node.op in ("fn.with_past", "fn.token_before") else 1):
            node.args.append(slot)
    for nodes in carrying.values():
        node = stateful = nodes[-1]
        if len({other.scope for other in nodes}) > 1:  # of modules that may be of one class
            node = _end_of_layer(program, plan, node)
        elif node.op == "fn.with_past":  # which gives more tokens than came
            node = program.users()[node.output][0]
        advance = Node("cache.advance", [node.output, parts[stateful].output], scope=node.scope)
        advance.location = node.location
        old = node.output
        advance.outputs = [Value(old.shape, old.dtype, advance, old.name)]
        after[node] = [advance]
        replaced[old] = advance.output


def _end_of_layer(program: Program, plan: Plan, stateful: Node) -> Node:
    """What gives the result of the layer, with a row for each token."""
    layer = stateful.scope[: len(plan.holder) + 1]
    inside = [node for node in program.nodes if node.scope[: len(layer)] == layer]
    read = {v for node in program.nodes if node not in set(inside) for v in node.inputs()}
    read.update(program.output_values())
    ends = [node for node in inside if node.scope == layer and node.outputs[0] in read]
    if not ends or ends[-1].output.shape[:2] != plan.text.ids.shape:
        raise NoCache(
            f"the layer of {stateful.op} at {stateful.location} ends in no array of tokens"
        )
    return ends[-1]
