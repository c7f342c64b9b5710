"""Weights and biases that a layer computes from its parameters alone: weight norms, spectral norms, joined biases."""

from __future__ import annotations

from collections.abc import Callable
from string import ascii_lowercase
from typing import Any

from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import commuted, producer, replace_node
from porter.weights import recipes
from porter.weights.recipes import Recipe

#: A longer computation is no normalization but a network of its own.
_MOST = 24
_ARITHMETIC: dict[str, Callable[..., Recipe]] = {
    "+": recipes.add, "-": recipes.subtract, "*": recipes.multiply, "/": recipes.divide, "@": recipes.matmul,
    "mx.maximum": recipes.maximum, "mx.sqrt": recipes.sqrt, "mx.rsqrt": recipes.rsqrt, "mx.exp": recipes.exp,
    "mx.square": recipes.square, "neg": recipes.negative,
}  # fmt: skip
_REDUCTIONS = {"mx.sum": recipes.sum, "mx.mean": recipes.mean}
_VIEWS = (".reshape", "mx.expand_dims", ".squeeze", "mx.broadcast_to")
_FILLED = {"mx.zeros": 0, "mx.ones": 1}


class _Other(Exception):
    """The weight is made of more than parameters, or by what no recipe can say."""


def fold_weights(program: Program) -> int:
    """A convolution or product whose weight follows from parameters alone becomes a layer, the weight its recipe.

    So a port trains the weight itself, where the source trains its length and direction. Returns how many.
    """
    count = 0
    parts: dict[str, Value] = {}
    made_once: dict[
        tuple[Recipe, str], Value
    ] = {}  # by the loop's first turn: it is one weight for all
    for node in list(program.nodes):
        place = node.args[1] if len(node.args) > 1 else None
        if not _takes_weight(node) or not isinstance(place, Value) or place.is_parameter:
            continue
        turned = producer(place, ".transpose") if node.op == "@" else None
        if node.op == "@" and (turned is None or place.rank != 2 or turned.args[1:] != [1, 0]):
            continue
        made = turned.args[0] if turned is not None else place
        if (weight := _cut(program, made, parts)) is None:
            try:
                leaves: list[Value] = []
                recipe = _recipe(made, leaves, {})
            except _Other:
                continue
            weight = made_once.get((recipe, node.op)) or Value(
                made.shape, made.dtype, path=_path(program, node, leaves), recipe=recipe
            )
            made_once[recipe, node.op] = weight
        _as_layer(program, node, weight)
        count += 1
    count += sum(_fold_bias(program, node) for node in list(program.nodes) if node.op == "+")
    if count:
        remove_dead(program)
    return count


def _cut(program: Program, made: Value, parts: dict[str, Value]) -> Value | None:
    """Rows of a packed matrix that one product takes: a weight of its own, under a name that says which rows these are."""
    node = made.node
    if node is None or node.op not in ("mx.split", "[]") or made.rank != 2:
        return None
    whole = node.args[0]
    alone = all(user.op == ".transpose" for user in program.users().get(made, []))
    if (
        not whole.is_parameter
        or whole.data is not None
        or made.shape[1] != whole.shape[1]
        or not alone
    ):
        return None
    try:
        recipe = _traced(made, [], {})
    except _Other:
        return None
    path = _path_of_rows(whole, _first_row(made), made.shape[0])
    return parts.setdefault(path, Value(made.shape, made.dtype, path=path, recipe=recipe))


def _first_row(made: Value) -> int:
    node = made.node
    assert node is not None
    if node.op == "[]":
        return int(node.attrs["key"][0].indices(node.args[0].shape[0])[0])
    return sum(value.shape[0] for value in node.outputs[: node.outputs.index(made)])


def _path_of_rows(whole: Value, first: int, count: int) -> str:
    """`q_proj.weight`, `kv_proj.weight` of torch's own in_proj_weight; else letters in their order."""
    total = whole.shape[0]
    home, _, leaf = (whole.path or "weight").rpartition(".")
    third = total // 3
    if leaf == "in_proj_weight" and third and not (total % 3 or first % third or count % third):
        name = "qkv"[first // third : (first + count) // third] + "_proj"
        return f"{home}.{name}.weight".lstrip(".")
    stem = leaf.removesuffix("weight").rstrip("_")
    letter = ascii_lowercase[first // count % 26]
    if stem:
        return f"{home}.{stem}_{letter}.weight".lstrip(".")
    return f"{home}_{letter}.weight" if home else f"{letter}.weight"


def _fold_bias(program: Program, added: Node) -> bool:
    """A bias put together from parameters, as of queries and values without one of keys, is its Linear's own."""
    users = program.users()
    for product, bias in commuted(added):
        made = producer(product, "@", "nn.Linear")
        if made is None or users[product] != [added] or product in program.output_values():
            continue
        turned = producer(made.args[1], ".transpose") if made.op == "@" else None
        if made.op == "@" and (turned is None or turned.args[1:] != [1, 0]):
            continue
        weight = turned.args[0] if turned is not None else made.params["weight"]
        given = "bias" in made.params or not weight.is_parameter or weight.rank != 2
        if given or not isinstance(bias, Value) or bias.is_parameter or bias.rank != 1:
            continue
        leaves: list[Value] = []
        try:
            recipe = _traced(bias, leaves, {})
        except _Other:
            continue
        if bias.shape != weight.shape[:1] or not recipes.sources(recipe):
            continue
        path = (weight.path or "weight").removesuffix("weight") + "bias"
        stored_ones = (v for n in program.nodes for v in n.params.values())  # by another call
        itself = next((v for v in (*leaves, *stored_ones) if v.recipe == recipe), None)
        stored = itself or Value(bias.shape, bias.dtype, path=path, recipe=recipe)
        build = Builder(made.scope, made.location)
        result = build.layer(
            "nn.Linear", made.args[0], {"weight": weight, "bias": stored}, added.output.shape,
            input_dims=weight.shape[1], output_dims=weight.shape[0], bias=True,
        )  # fmt: skip
        replace_node(program, added, build.nodes, result)
        remove_dead(program)
        if itself is None:
            _rename(program, stored)
        return True
    return False


def _rename(program: Program, made: Value) -> None:
    """Gives a parameter that was made here a path that no other has."""
    values = {v for n in program.nodes for v in n.inputs() if v.is_parameter and v is not made}
    taken = {value.path for value in values}
    while made.path in taken:
        made.path = f"{made.path}_computed"


def _takes_weight(node: Node) -> bool:
    return node.op == "@" or (node.op.startswith("mx.conv") and node.op[-1] == "d")


def _recipe(value: Value, leaves: list[Value], known: dict[Value, Recipe]) -> Recipe:
    """What the value is made of; its parameters are added to `leaves`. It computes, so one without arithmetic is none."""
    result = _traced(value, leaves, known)
    if not any(v.node.op in _ARITHMETIC for v in known if v.node is not None):
        raise _Other
    return result


def _traced(value: Value, leaves: list[Value], known: dict[Value, Recipe]) -> Recipe:
    if value in known:
        return known[value]
    if value.is_parameter:
        if value.data is not None:  # a constant, which the checkpoint may lack
            return _filled(value, value.data)
        leaves.append(value)
        return value.recipe  # type: ignore[no-any-return]
    node = value.node
    if node is None or len(known) > _MOST or not all(isinstance(s, int) for s in value.shape):
        raise _Other
    if value.dtype == "complex64":  # recipes are of real numbers
        raise _Other
    if node.op in _ARITHMETIC and not node.kwargs:
        plain = [_unbroadcast(node, a) for a in node.args]
        parts = [_traced(a, leaves, known) if isinstance(a, Value) else a for a in plain]
        found = _ARITHMETIC[node.op](*parts)
    elif node.op == ".transpose":
        found = recipes.permute(_traced(node.args[0], leaves, known), node.args[1:])
    elif node.op in _VIEWS and value.shape == node.args[0].shape:
        found = _traced(node.args[0], leaves, known)
    elif node.op in _VIEWS[:3]:
        found = recipes.reshape(_traced(node.args[0], leaves, known), value.shape)
    elif node.op in _FILLED or node.op == "mx.full":
        found = recipes.constant(_FILLED.get(node.op, node.args[-1]), value.shape, value.dtype)
    elif node.op == "mx.concatenate":
        parts = [_traced(part, leaves, known) for part in node.args[0]]
        found = _joined(parts, node.args[0], node.kwargs.get("axis", 0))
    elif node.op == "mx.split" and (whole := _whole_part(node, value)) is not None:
        found = _traced(whole, leaves, known)
    elif node.op == "mx.split":
        found = _piece(_traced(node.args[0], leaves, known), node, value)
    elif node.op == "[]":
        found = _part(_traced(node.args[0], leaves, known), node)
    elif node.op in (*_REDUCTIONS, "mx.var"):
        found = _reduced(node, _traced(node.args[0], leaves, known))
    else:
        raise _Other
    known[value] = found
    return found


def _unbroadcast(node: Node, operand: Any) -> Any:
    """What arithmetic with an array of the full shape broadcasts by itself: the norms of a weight's rows."""
    made = producer(operand, "mx.broadcast_to") if node.op != "@" else None
    others = [a for a in node.args if isinstance(a, Value) and a is not operand]
    wide = made is not None and any(other.shape == node.output.shape for other in others)
    return made.args[0] if made is not None and wide else operand


def _filled(value: Value, data: Any) -> Recipe:
    """A constant that is one number."""
    if data.size == 0 or (data != data.flat[0]).any():
        raise _Other
    return recipes.constant(data.flat[0].item(), value.shape, value.dtype)


def _joined(parts: list[Recipe], values: list[Value], axis: int) -> Recipe:
    """Parts one behind the other; zeros take the type of a part that the checkpoint has."""
    stored = [
        (part, value.shape)
        for part, value in zip(parts, values, strict=True)
        if part.function != "constant"
    ]
    for place, (part, value) in enumerate(zip(parts, values, strict=True)):
        like = next((other for other, shape in stored if shape == value.shape), None)
        if part.function == "constant" and part.arguments[0] == 0 and like is not None:
            parts[place] = recipes.multiply(like, 0)
    return recipes.concatenate(parts, axis)


def _part(x: Recipe, node: Node) -> Recipe:
    """A slice; where it is one of several equal parts it says so, which holds at any size."""
    for axis, cut in enumerate(node.attrs["key"]):
        if cut == slice(None):
            continue
        size = node.args[0].shape[axis]
        if not isinstance(cut, slice) or cut.step not in (None, 1):
            raise _Other
        start, stop, _ = cut.indices(size)
        length = stop - start
        if length > 0 and size % length == 0 and start % length == 0:
            x = recipes.split(x, size // length, axis, start // length)
        else:
            x = recipes.slice(x, axis, start, stop)
    return x


def _whole_part(node: Node, value: Value) -> Value | None:
    """What was joined and is taken apart again: three biases, of which a product reads one."""
    joined = producer(node.args[0], "mx.concatenate")
    axis = node.kwargs.get("axis", 0) % value.rank
    if joined is None or joined.kwargs.get("axis", 0) % value.rank != axis:
        return None
    parts: list[Value] = joined.args[0]
    same = [part.shape for part in parts] == [part.shape for part in node.outputs]
    return parts[node.outputs.index(value)] if same else None


def _piece(x: Recipe, node: Node, value: Value) -> Recipe:
    axis = node.kwargs.get("axis", 0) % value.rank
    place, sizes = node.outputs.index(value), [part.shape[axis] for part in node.outputs]
    if len(set(sizes)) == 1:
        return recipes.split(x, len(sizes), axis, place)
    start = sum(sizes[:place])
    return recipes.slice(x, axis, start, start + sizes[place])


def _reduced(node: Node, x: Recipe) -> Recipe:
    axes = node.kwargs.get("axis")
    rank = node.args[0].rank
    every = (
        tuple(range(rank)) if axes is None else axes if isinstance(axes, (tuple, list)) else (axes,)
    )
    axes, keepdims = tuple(axis % rank for axis in every), bool(node.kwargs.get("keepdims", False))
    if node.op in _REDUCTIONS:
        return _REDUCTIONS[node.op](x, axes, keepdims)
    count = 1
    for axis in axes:
        count *= node.args[0].shape[axis]
    squares = recipes.square(recipes.subtract(x, recipes.mean(x, axes, True)))
    return recipes.divide(recipes.sum(squares, axes, keepdims), count - node.kwargs.get("ddof", 0))


def _path(program: Program, node: Node, leaves: list[Value]) -> str:
    """`conv.weight` of what is made of conv.weight_v or conv.parametrizations.weight.original1; else the largest part's own."""
    largest = max(leaves, key=lambda v: _count(v.shape)).path or "weight"
    home = node.scope[-1].path if node.scope else ""
    start = f"{home}." if home else ""
    relative = largest.removeprefix(start).removeprefix("parametrizations.")
    path = (
        f"{start}weight" if largest.startswith(start) and relative.startswith("weight") else largest
    )
    readers = {v.path for n in program.nodes if n.is_layer for v in n.inputs() if v.is_parameter}
    while path in readers:
        path += "_computed"
    return path


def _count(shape: tuple[Any, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _as_layer(program: Program, node: Node, weight: Value) -> None:
    """Puts a layer in the place of the product, and of the bias that is added to it."""
    params, last = {"weight": weight}, node
    readers = [n for n in program.nodes if node.output in n.inputs()]
    outer = weight.shape[0]
    if len(readers) == 1 and readers[0].op == "+" and node.output not in program.output_values():
        bias = next((a for a in readers[0].args if a is not node.output), None)
        if isinstance(bias, Value) and bias.is_parameter and bias.shape == (outer,):
            params["bias"], last = bias, readers[0]
    build = Builder(node.scope, node.location)
    attrs: dict[str, Any] = {"bias": "bias" in params}
    if node.op == "@":
        name = "nn.Linear"
        attrs |= {"input_dims": weight.shape[1], "output_dims": outer}
    else:
        rank = weight.rank - 2
        name = f"nn.Conv{'Transpose' if 'transpose' in node.op else ''}{rank}d"
        groups = node.kwargs.get("groups", 1)
        if groups != 1 and (name.startswith("nn.ConvTranspose") or rank == 3):
            node.args[1] = weight
            return
        kernel = weight.shape[1:-1]
        moves = (
            "stride",
            "padding",
            "dilation",
            *(("output_padding",) if "Transpose" in name else ()),
        )
        attrs |= {
            "in_channels": weight.shape[-1] * groups, "out_channels": outer,
            "kernel_size": kernel[0] if len(set(kernel)) == 1 else kernel,
            **{move: node.kwargs.get(move, 0 if "padding" in move else 1) for move in moves},
        }  # fmt: skip
        if "Transpose" not in name and rank < 3:
            attrs["groups"] = groups
    result = build.layer(name, node.args[0], params, last.output.shape, **attrs)
    replace_node(program, last, build.nodes, result)
