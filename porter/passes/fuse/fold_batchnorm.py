"""`--fold-batchnorm`: a BatchNorm that follows a convolution or a Linear becomes part of its weight and bias."""

from __future__ import annotations

from porter.ir import Node, Program, Value
from porter.passes.fuse.misses import Missed, note_miss
from porter.weights import recipes
from porter.weights.recipes import Recipe

_FOLLOWED = ("nn.Conv", "nn.Linear")


def fold_batchnorm(program: Program) -> int:
    """weight * gamma / sqrt(var + eps), and the bias that goes with it, as recipes. Returns how many norms went.

    The layer's output is the norm's from then on. Training such a port would miss the norm's statistics.
    """
    users = program.users()
    readers: dict[str, int] = {}
    for node in program.nodes:
        for value in node.inputs():
            if value.is_parameter:
                readers[value.path or ""] = readers.get(value.path or "", 0) + 1
    folded: dict[Value, Value] = {}
    for norm in [node for node in program.nodes if node.op == "nn.BatchNorm"]:
        try:
            layer = _layer_before(program, norm, users, readers)
        except Missed as reason:
            note_miss(program, "a BatchNorm", norm, reason)
            continue
        _fold(layer, norm)
        folded[norm.output] = layer.output
    program.nodes = [n for n in program.nodes if not n.outputs or n.outputs[0] not in folded]
    program.replace(folded)
    return len(folded)


def _layer_before(
    program: Program, norm: Node, users: dict[Value, list[Node]], readers: dict[str, int]
) -> Node:
    x = norm.args[0]
    layer = x.node
    if "running_mean" not in norm.params:
        raise Missed("it keeps no statistics")
    if layer is None or not layer.op.startswith(_FOLLOWED):
        raise Missed("no convolution or Linear is right before it")
    if len(users.get(x, [])) != 1 or x in program.output_values():
        raise Missed("something else reads the convolution's output")
    if any(readers[value.path or ""] > 1 for value in layer.params.values()):
        raise Missed("the convolution's weight is used more than once")
    values = (*layer.params.values(), *norm.params.values())
    if any(value.data is not None or value.recipe is None for value in values):
        raise Missed("a parameter of it is no checkpoint tensor")
    if layer.params["weight"].shape[0] != norm.attrs["num_features"]:
        raise Missed("it is not over the convolution's output channels")
    return layer


def _fold(layer: Node, norm: Node) -> None:
    weight, params = layer.params["weight"], norm.params
    scale = recipes.rsqrt(recipes.add(params["running_var"].recipe, float(norm.attrs["eps"])))
    if "weight" in params:
        scale = recipes.multiply(params["weight"].recipe, scale)
    shape = (weight.shape[0], *[1] * (weight.rank - 1))
    shift = recipes.negative(params["running_mean"].recipe)
    if "bias" in layer.params:
        shift = recipes.add(layer.params["bias"].recipe, shift)
    shift = recipes.multiply(shift, scale)
    if "bias" in params:
        shift = recipes.add(params["bias"].recipe, shift)
    stem = (weight.path or "weight").rpartition(".")[0]
    product = recipes.multiply(weight.recipe, recipes.reshape(scale, shape))
    layer.params = {
        "weight": _parameter(weight.path or "", weight.shape, weight.dtype, product),
        "bias": _parameter(f"{stem}.bias", weight.shape[:1], weight.dtype, shift),
    }
    layer.attrs = {**layer.attrs, "bias": True}
    layer.output.origin, layer.output.permute = norm.output.origin, norm.output.permute
    layer.output.name = norm.output.name


def _parameter(path: str, shape: tuple[int, ...], dtype: str, recipe: Recipe) -> Value:
    return Value(shape, dtype, path=path, recipe=recipe)
