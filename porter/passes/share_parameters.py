"""Parameters with several readers: one copy is kept, and every reader takes it from there."""

from __future__ import annotations

from dataclasses import replace

from porter.errors import UnsupportedError
from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.ir.ops import REDUCTIONS
from porter.passes.factor.layer_names import layer_path
from porter.weights.recipes import Recipe

Step = tuple[str, tuple[int, ...]]


def share_parameters(program: Program) -> int:
    """Resolves conflicts over a parameter. Returns how many readers were rewritten.

    Two layers of one weight that are not the same layer (only one has a bias, or another dilation) become a layer and a
    function of its weight; a parameter that readers want in different layouts is kept in one and rearranged for the others.
    """
    return _copy_foreign_layers(program) + _split_layers(program) + _keep_one_layout(program)


def _copy_foreign_layers(program: Program) -> int:
    """A layer that a module borrows from one elsewhere gets a home, and a copy of the weights, in each borrower.

    mlx.nn's modules are a tree: a layer in two places of it has its weights twice. The outputs are the source's; a training
    step would part the copies, so the user is told.
    """
    layers = [node for node in program.nodes if node.is_layer and node.params and node.scope]
    tied = {n.params["weight"].path for n in program.nodes if n.op == "as_linear"}
    paths = [value.path for node in program.nodes for value in node.inputs() if value.path]
    holders = {path[:end] for path in set(paths) for end, c in enumerate(path) if c == "."}
    copies: dict[str, Value] = {}
    for node in layers:
        path, home = layer_path(node), node.scope[-1].path
        around = [f.path for f in node.scope if f.path in holders]
        borrowed = any(not path.startswith(f"{holder}.") for holder in around if holder != path)
        if not path or not borrowed or home in holders or tied & set(_paths(node).values()):
            continue
        for role, value in node.params.items():
            new = f"{home}{(value.path or '').removeprefix(path)}"
            node.params[role] = copies.setdefault(new, replace(value, path=new))
        note = f"{path} has several owners in the source; each has a copy of its weights here"
        if note not in program.notes:
            program.notes.append(note)
    return len(copies)


def _split_layers(program: Program) -> int:
    layers: dict[str, list[Node]] = {}
    for node in program.nodes:
        if node.is_layer and node.params:
            layers.setdefault(layer_path(node), []).append(node)
    changed = 0
    for path, nodes in layers.items():
        first = max(nodes, key=lambda node: len(node.params))
        for node in nodes:
            alike = (
                node.op == first.op and node.attrs == first.attrs and _paths(node) == _paths(first)
            )
            if path and alike:
                continue
            if node.op in _FUNCTIONS:
                _spell_out(program, node)
                changed += 1
            elif path and node is not first:
                kinds = f"{first.op} with {first.attrs} and as {node.op} with {node.attrs}"
                raise UnsupportedError(
                    f"{path} is used as {kinds} (at {node.location}); a layer has one setting in MLX. "
                    "Give the second use a module of its own."
                )
    return changed


def _paths(node: Node) -> dict[str, str | None]:
    return {role: value.path for role, value in node.params.items()}


def _linear(builder: Builder, node: Node) -> Value:
    """x @ weight.T"""
    weight, out = node.params["weight"], node.output
    turned = builder.transpose(weight, (1, 0))
    return builder.op("@", node.args[0], turned, shape=out.shape, dtype=out.dtype)


def _convolution(builder: Builder, node: Node) -> Value:
    """mx.conv2d(x, weight, ...), or its transpose's"""
    kind, count = node.op.removeprefix("nn.Conv")[:-2], node.op[-2:]
    out = node.output
    defaults = {"stride": 1, "padding": 0, "dilation": 1, "output_padding": 0, "groups": 1}
    options = {k: v for k, v in node.attrs.items() if k in defaults and v != defaults[k]}
    name = f"mx.conv_transpose{count}" if kind else f"mx.conv{count}"
    return builder.op(
        name, node.args[0], node.params["weight"], shape=out.shape, dtype=out.dtype, **options
    )


def _norm(builder: Builder, node: Node) -> Value:
    """mx.fast.layer_norm(x, weight, bias, eps); its bias goes with it"""
    out = node.output
    names = ("weight", "bias") if node.op == "nn.LayerNorm" else ("weight",)
    name = "mx.fast.layer_norm" if node.op == "nn.LayerNorm" else "mx.fast.rms_norm"
    affine = [node.params.get(role) for role in names]
    eps = node.attrs.get("eps", 1e-5)
    return builder.op(name, node.args[0], *affine, eps, shape=out.shape, dtype=out.dtype)


#: Layers and the functions that do the same with their parameters; what they leave out is the bias.
_FUNCTIONS = {
    "nn.Linear": _linear,
    **{f"nn.Conv{kind}{n}d": _convolution for kind in ("", "Transpose") for n in (1, 2, 3)},
    "nn.LayerNorm": _norm,
    "nn.RMSNorm": _norm,
}


def _spell_out(program: Program, node: Node) -> None:
    """A function of a layer's parameters in the layer's place."""
    builder = Builder(node.scope, node.location)
    out = node.output
    result = _FUNCTIONS[node.op](builder, node)
    if "bias" in node.params and _FUNCTIONS[node.op] is not _norm:
        result = builder.op("+", result, node.params["bias"], shape=out.shape, dtype=out.dtype)
    result.origin, result.permute, result.name = out.origin, out.permute, out.name
    position = program.nodes.index(node)
    program.nodes[position : position + 1] = builder.nodes
    program.replace({out: result})


def _keep_one_layout(program: Program) -> int:
    readers: dict[str, list[tuple[Node, Value]]] = {}
    for node in program.nodes:
        for value in dict.fromkeys(node.inputs()):
            if value.is_parameter:
                readers.setdefault(value.path or "", []).append((node, value))
    changed = 0
    for found in readers.values():
        if len({(str(value.recipe), value.shape) for _, value in found}) == 1:
            continue
        ordered = [v for n, v in found if not _minds_no_order(n)] or [v for _, v in found]
        kept = next((v for n, v in found if n.is_layer), None) or min(
            ordered, key=lambda v: len(str(v.recipe))
        )
        for node, value in found:
            if _minds_no_order(node):
                node.replace_inputs(lambda v, old=value, new=kept: new if v is old else v)  # type: ignore[misc]
                continue
            same = str(value.recipe) == str(kept.recipe) and value.shape == kept.shape
            if (
                same
                or kept.source_shape is None
                or (node.is_layer and value in node.params.values())
            ):
                continue
            builder = Builder(node.scope, node.location)
            made = _rearranged(builder, kept, value)
            position = program.nodes.index(node)
            program.nodes[position:position] = builder.nodes
            node.replace_inputs(lambda v, old=value, new=made: new if v is old else v)  # type: ignore[misc]
            changed += 1
    return changed


def _minds_no_order(node: Node) -> bool:
    """Whether a node reduces all that it reads to one number."""
    return (
        node.op in REDUCTIONS
        and not node.op.startswith("mx.arg")
        and node.kwargs.get("axis") is None
    )


def _rearranged(builder: Builder, kept: Value, wanted: Value) -> Value:
    """Takes the kept layout back to the checkpoint's, and that on to the wanted one."""
    shapes = [kept.source_shape or ()]
    steps = _steps(kept.recipe)
    for name, numbers in steps:
        last = shapes[-1]
        shapes.append(tuple(last[axis] for axis in numbers) if name == "permute" else numbers)
    value = kept
    for (name, numbers), before in zip(reversed(steps), reversed(shapes[:-1]), strict=True):
        if name == "permute":
            value = builder.transpose(value, [numbers.index(axis) for axis in range(len(numbers))])
        else:
            value = builder.reshape(value, before)
    for name, numbers in _steps(wanted.recipe):
        value = (
            builder.transpose(value, numbers)
            if name == "permute"
            else builder.reshape(value, numbers)
        )
    return value


def _steps(recipe: Recipe) -> list[Step]:
    """The permutes and reshapes from the checkpoint's tensor outwards."""
    steps: list[Step] = []
    while recipe.function in ("permute", "reshape"):
        inner, numbers = recipe.arguments
        steps.insert(0, (recipe.function, tuple(numbers)))  # type: ignore[arg-type]
        assert isinstance(inner, Recipe)
        recipe = inner
    return steps
