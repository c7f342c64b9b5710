"""The tree of module calls behind a flat program."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from typing import Any

from porter.ir import Frame, Memory, Node, Program, Value
from porter.passes.factor.blocks import Block, Item
from porter.passes.factor.layer_names import layer_path

#: Who reads each array; None is the program's end.
Readers = dict[Value, list[Node | None]]


def build_tree(program: Program, apart: Collection[str] = ()) -> Block:
    """Groups the nodes by module call, and dissolves the groups that don't deserve a class.

    The calls of the modules `apart` dissolve too: they do different things with the same parameters.
    """
    root = Block("", f"{program.cls} as the whole model")  # never a mere Sequential
    parts = {*apart, *_uneven(program)}
    readers: Readers = {value: [*nodes] for value, nodes in program.users().items()}
    for value in program.output_values():
        readers[value] = [*readers.get(value, ()), None]
    root.items = _group(program, program.nodes, 0, root, parts, readers)
    if torn := _torn(program, root):
        root.items = _group(program, program.nodes, 0, root, parts | torn, readers)
    root.inputs = list(program.inputs)
    root.outputs = program.output_values()
    _connect(root, set(root.outputs), program.forward_names)
    return root


def _uneven(program: Program) -> set[str]:
    """Modules with several calls of which only some turn a parameter around, or that each go by parameters of their own
    (`blocks(x, index)`): one instance can't do both.
    """
    reading: dict[str, dict[int, set[str]]] = {}
    plain: dict[str, set[int]] = {}
    turning: dict[str, set[int]] = {}
    for node in program.nodes:
        paths = [v.path or "" for v in node.inputs() if v.is_parameter]
        for frame in node.scope if paths else ():
            own = {path for path in paths if path.startswith(f"{frame.path}.")}
            if own:
                reading.setdefault(frame.path, {}).setdefault(frame.call, set()).update(own)
            if own and not node.is_layer:
                plain.setdefault(frame.path, set()).add(frame.call)
                if node.op in (".transpose", ".reshape"):
                    turning.setdefault(frame.path, set()).add(frame.call)
    turned = {path for path, calls in turning.items() if calls != plain[path]}
    return turned | {path for path, calls in reading.items() if _go_apart(list(calls.values()))}


def _go_apart(parameters: list[set[str]]) -> bool:
    """Whether two calls each read parameters that the other leaves alone."""
    most = max(parameters, key=len)
    return any(not read <= most for read in parameters)


def _torn(program: Program, root: Block) -> set[str]:
    """Sequences that stayed whole in some of their calls alone: the layers of an nn.Sequential can't be reached."""
    calls = {frame for node in program.nodes for frame in node.scope}
    whole = {
        (item.path, item.call) for block in root.walk() for item in block.items
        if isinstance(item, Block) and item.is_sequential
    }  # fmt: skip
    paths = {path for path, _ in whole}
    return {f.path for f in calls if f.path in paths and (f.path, f.call) not in whole}


def _group(
    program: Program,
    nodes: list[Node],
    depth: int,
    parent: Block,
    apart: set[str],
    readers: Readers,
) -> list[Item]:
    groups: dict[Frame, list[Node]] = {}
    items: list[Node | Frame] = []
    for node in nodes:
        if len(node.scope) > depth:
            frame = node.scope[depth]
            if frame not in groups:
                items.append(frame)
            groups.setdefault(frame, []).append(node)
        else:
            items.append(node)
    result: list[Item] = []
    for item in items:
        if isinstance(item, Node):
            result.append(item)
            continue
        block = Block(item.path, item.cls, item.call)
        block.items = _group(program, groups[item], depth + 1, block, apart, readers)
        is_class = item.path not in apart and _deserves_class(program, block, parent, readers)
        result += [block] if is_class else block.items
    return _ordered(result)


def _deserves_class(program: Program, block: Block, parent: Block, readers: Readers) -> bool:
    """Whether a module call stays a call: it has parameters of its own that no single layer takes over."""
    nodes = list(_nodes(block))
    own = [
        node
        for node in nodes
        if any(v.is_parameter and block.owns(v.path or "") for v in node.inputs())
    ]
    if not own or block.path == parent.path:
        return False
    if any(n.is_layer and n.params and layer_path(n) == block.path for n in nodes):
        return False
    looked_up = {n.params["weight"].path for n in nodes if n.op == "nn.Embedding"}
    if any(n.op == "as_linear" and n.params["weight"].path not in looked_up for n in nodes):
        return False  # the embedding is reached from where both are
    if len(nodes) == 1 and not isinstance(block.items[0], Block) and not nodes[0].is_layer:
        read = {v for v in nodes[0].inputs() if v.is_parameter and block.owns(v.path or "")}
        if len(read) == 1:
            return False  # one function of one parameter: x * self.gamma
    if not _sizes_needed(nodes) <= _sizes_given(block) | _sizes_found(nodes):
        return False  # a size that only the module around it can read off an array
    if program.memory is not None and _holds_both(nodes, program.memory):
        return False  # encoder and decoder are called one by one
    children = [item for item in block.items if isinstance(item, Block)]
    if block.is_sequential:
        return _is_chain(block) and not _is_read_inside(block, readers)
    return bool(children) or len(nodes) > 0


def _holds_both(nodes: list[Node], memory: Memory) -> bool:
    """Whether encoder and decoder are inside."""
    written = {value for node in nodes for value in node.outputs}
    return any(value in written for value in memory.values) and any(
        "cache" in value.dtype for node in nodes for value in node.outputs
    )


def _sizes_needed(nodes: list[Node]) -> set[Any]:
    """The symbols of sizes that nodes make arrays of."""
    made = [size for node in nodes if node.op in _MAKERS for size in _flat(node.args)]
    return {symbol for size in made for symbol in getattr(size, "free_symbols", ())}


def _sizes_given(block: Block) -> set[Any]:
    shapes = [value.shape for value in _external(block)]
    return {
        symbol for shape in shapes for size in shape for symbol in getattr(size, "free_symbols", ())
    }


def _sizes_found(nodes: list[Node]) -> set[Any]:
    """The symbols of sizes that come from a cache: the number of tokens so far."""
    caching = [node for node in nodes if any("cache" in value.dtype for value in node.inputs())]
    sizes = [size for node in caching for value in node.outputs for size in value.shape]
    return {symbol for size in sizes for symbol in getattr(size, "free_symbols", ())}


_MAKERS = {"mx.zeros", "mx.ones", "mx.full", "mx.arange", "mx.broadcast_to", "mx.tile", "positions"}


def _flat(item: Any) -> Iterator[Any]:
    if isinstance(item, (list, tuple)):
        for entry in item:
            yield from _flat(entry)
    else:
        yield item


def _nodes(block: Block) -> Iterator[Node]:
    for item in block.items:
        if isinstance(item, Block):
            yield from _nodes(item)
        elif isinstance(item, Node):
            yield item


def _is_read_inside(block: Block, readers: Readers) -> bool:
    """Whether something outside reads what is not a chain's last: an activation that wrote into its input, say."""
    nodes = list(_nodes(block))
    own = set(nodes)
    inner = (value for node in nodes[:-1] for value in node.outputs)
    return any(reader not in own for value in inner for reader in readers.get(value, ()))


def _is_chain(block: Block) -> bool:
    """Whether each item reads one array, the one that the item before wrote, and it alone."""
    previous: Value | None = None
    for item in block.items:
        arrays = [v for v in _external(item) if not (v.is_parameter and block.owns(v.path or ""))]
        if len(arrays) != 1 or (previous is not None and arrays[0] is not previous):
            return False
        nodes = (
            [item]
            if isinstance(item, Node)
            else list(_nodes(item))
            if isinstance(item, Block)
            else []
        )
        written = [value for node in nodes for value in node.outputs]
        if isinstance(item, Node):
            if len(item.outputs) != 1 or item.kwargs or not (item.is_layer or _has_module(item)):
                return False
            previous = item.output
        else:
            previous = written[-1] if written else None
    return True


_AS_MODULE = {
    "nn.relu": "nn.ReLU()", "nn.gelu": "nn.GELU()", "nn.silu": "nn.SiLU()", "nn.hardswish": "nn.Hardswish()",
    "nn.relu6": "nn.ReLU6()", "mx.sigmoid": "nn.Sigmoid()", "mx.tanh": "nn.Tanh()", "nn.mish": "nn.Mish()",
    "nn.gelu_approx": 'nn.GELU(approx="precise")', "nn.elu": "nn.ELU()", "nn.softplus": "nn.Softplus()",
    "nn.selu": "nn.SELU()", "nn.softsign": "nn.Softsign()", "nn.log_sigmoid": "nn.LogSigmoid()",
}  # fmt: skip

#: Activations with a number: the module, what it calls the number, and its default.
NUMBERED = {"nn.leaky_relu": ("nn.LeakyReLU", "negative_slope", 0.01)}


def _has_module(node: Node) -> bool:
    """Whether a module of mlx.nn does what a function does."""
    if node.op in NUMBERED:
        return len(node.args) == 2 and isinstance(node.args[1], (int, float))
    return node.op in _AS_MODULE and len(node.args) == 1


def module_form(op: str) -> str | None:
    """The mlx.nn module that does what a function does, for nn.Sequential."""
    return _AS_MODULE.get(op)


def _external(item: Item) -> list[Value]:
    if isinstance(item, Node):
        return [v for v in dict.fromkeys(item.inputs()) if v not in item.params.values()]
    assert isinstance(item, Block)
    written = {value for node in _nodes(item) for value in node.outputs}
    # a layer that a caller hands over (`decoder(x, self.heads)`) is kept where it is called
    read = [
        v
        for node in _nodes(item)
        for v in node.inputs()
        if not (node.is_layer and v in node.params.values())
    ]
    return [
        v
        for v in dict.fromkeys(read)
        if v not in written and not (v.is_parameter and item.owns(v.path or ""))
    ]


def _ordered(items: list[Item]) -> list[Item]:
    """Sorts so that everything is written before it is read, earlier items first; a cycle of calls is dissolved."""
    writer: dict[Value, int] = {}
    for index, item in enumerate(items):
        for node in [item] if isinstance(item, Node) else _nodes(item):  # type: ignore[arg-type]
            for value in node.outputs:
                writer[value] = index
    waits = [
        {writer[v] for v in _external(item) if v in writer} - {index}
        for index, item in enumerate(items)
    ]
    followers: dict[int, list[int]] = {}
    for index, before in enumerate(waits):
        for other in before:
            followers.setdefault(other, []).append(index)
    ready = [index for index, before in enumerate(waits) if not before]
    heapq.heapify(ready)
    result: list[Item] = []
    left = [len(before) for before in waits]
    while ready:
        index = heapq.heappop(ready)
        result.append(items[index])
        for follower in followers.get(index, []):
            left[follower] -= 1
            if not left[follower]:
                heapq.heappush(ready, follower)
    if len(result) == len(items):
        return result
    stuck = next(
        item for index, item in enumerate(items) if left[index] and isinstance(item, Block)
    )
    position = items.index(stuck)
    return _ordered(items[:position] + stuck.items + items[position + 1 :])


def _state_last(value: Value) -> int:
    """Masks and caches are a call's last arguments."""
    return {"mask": 1, "cache": 2, "layer_cache": 2, "caches": 2}.get(value.dtype, 0)


def _as_called(
    block: Block, read: list[Value], names: dict[tuple[str, int], dict[str, str]]
) -> list[Value]:
    """What a call is given: those that its author's forward has a name for in the order of its signature."""
    places = {origin: k for k, origin in enumerate(names.get((block.path, block.call), {}))}
    called = [value for value in read if value.origin in places]
    ordered = iter(sorted(called, key=lambda value: places[value.origin or ""]))
    given = [next(ordered) if value.origin in places else value for value in read]
    return sorted(given, key=_state_last)


def _connect(
    block: Block, wanted: set[Value], names: dict[tuple[str, int], dict[str, str]]
) -> None:
    """Fills the inputs and outputs of the blocks below: what they read from outside, and what is read of them outside."""
    later = set(wanted)
    for item in reversed(block.items):
        read = _external(item)
        if isinstance(item, Block):
            item.inputs = _as_called(item, read, names)
            item.outputs = [value for value in _written(item) if value in later]
        later.update(read)
    calls = [item for item in block.items if isinstance(item, Block)]
    _give_alike(calls)
    for call in calls:
        _connect(call, set(call.outputs), names)


def _give_alike(calls: list[Block]) -> None:
    """Calls of one module that do the same give the same: the last step of a loop its state too, which nobody reads."""
    same: dict[tuple[Any, ...], list[Block]] = {}
    for call in calls:
        same.setdefault((call.path, *(node.op for node in _nodes(call))), []).append(call)
    for group in same.values():
        places = {_written(call).index(value) for call in group for value in call.outputs}
        for call in group if len(group) > 1 else ():
            call.outputs = [_written(call)[place] for place in sorted(places)]


def _written(block: Block) -> list[Value]:
    return [value for node in _nodes(block) for value in node.outputs]
