"""Gated experts as mlx-lm has them, which sorts a long text's tokens by their experts."""

from __future__ import annotations

from dataclasses import dataclass

from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import commuted, producer, replace_node, through_casts
from porter.weights.recipes import split

_LINEAR = "nn.SwitchLinear"
_ROLES = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class _Gated:
    """down(silu(gate(x)) * up(x)) of the chosen experts; parameters by role."""

    x: Value
    chosen: Value
    params: dict[str, Value]
    down: Node


def fuse_switch_glu(program: Program) -> int:
    """SwitchLinears around silu(gate) * up become one SwitchGLU (Shazeer 2020, "GLU variants"). Returns how many.

    A stacked weight that holds gate and up one behind the other, (experts, 2 * hidden, width), is split in its recipe.
    """
    users = program.users()
    found = [gated for node in program.nodes if (gated := _match(node, users)) is not None]
    for gated in found:
        _rewrite(program, gated)
    if found:
        remove_dead(program)
    return len(found)


def _match(down: Node, users: dict[Value, list[Node]]) -> _Gated | None:
    if down.op != _LINEAR or len(users.get(down.args[0], ())) != 1:
        return None
    for gate, up in _gates(down.args[0]):
        sources = _linears(gate, up, users)
        if sources is None:
            continue
        (first, *_), params = sources
        expanded = producer(first.args[0], "mx.expand_dims")
        biased = down.attrs["bias"]
        if (
            expanded is None
            or tuple(expanded.args[1]) != (-2, -3)
            or first.args[1] is not down.args[1]
            or any(node.attrs["bias"] != biased for node in sources[0])
        ):
            continue
        params |= {f"down_proj.{role}": value for role, value in down.params.items()}
        return _Gated(expanded.args[0], through_casts(down.args[1]), params, down)
    return None


def _gates(value: Value) -> list[tuple[Value, Value]]:
    """(gate, up) of silu(gate) * up."""
    node = producer(value, "swiglu", "*")
    if node is None:
        return []
    if node.op == "swiglu":
        return [(node.args[0], node.args[1])]
    return [
        (silu.args[0], up)
        for gated, up in commuted(node)
        if (silu := producer(gated, "nn.silu")) is not None and isinstance(up, Value)
    ]


def _linears(
    gate: Value, up: Value, users: dict[Value, list[Node]]
) -> tuple[list[Node], dict[str, Value]] | None:
    """The layers that give gate and up, two or one, and their parameters."""
    both = producer(gate, "mx.split")
    if both is not None:
        layer = producer(both.args[0], _LINEAR)
        halves = both.args[1:] == [2] and both.outputs == [gate, up]
        if layer is None or not halves or len(users[layer.output]) != 1:
            return None
        parts = [_halves(value) for value in layer.params.values()]
        return [layer], {
            f"{name}.{role}": pair[k]
            for k, name in enumerate(_ROLES[:2])
            for role, pair in zip(layer.params, parts, strict=True)
        }
    first, second = producer(gate, _LINEAR), producer(up, _LINEAR)
    if first is None or second is None or first.args != second.args:
        return None
    return [first, second], {
        f"{name}.{role}": value
        for name, node in zip(_ROLES, (first, second), strict=False)
        for role, value in node.params.items()
    }


def _halves(value: Value) -> list[Value]:
    """A stacked parameter (experts, 2 * hidden, ...) as its two halves."""
    experts, both, *rest = value.shape
    return [
        Value(
            (experts, both // 2, *rest), value.dtype, path=value.path,
            recipe=split(value.recipe, 2, 1, k),
            data=None if value.data is None else value.data[:, k * both // 2 : (k + 1) * both // 2],
        )
        for k in range(2)
    ]  # fmt: skip


def _rewrite(program: Program, gated: _Gated) -> None:
    down = gated.down
    number, hidden, width = gated.params["gate_proj.weight"].shape
    home = _home(program, gated)
    params = {}
    for role, value in gated.params.items():
        value.path = f"{home}.{role}"
        params[role] = value
    build = Builder(down.scope, down.location)
    chosen = gated.chosen.shape[-1]
    result = build.node(
        "nn.SwitchGLU", gated.x, gated.chosen, dtypes=[down.output.dtype],
        shapes=[(*gated.chosen.shape[:-1], chosen, width)], params=params,
        attrs={"input_dims": width, "hidden_dims": hidden, "num_experts": number, "bias": down.attrs["bias"]},
    ).output  # fmt: skip
    last, weights = _weighted(program, down)
    if weights is not None:
        weights = build.op("mx.expand_dims", weights, -1, shape=(*weights.shape, 1))
        result = build.op("*", result, weights, shape=result.shape, dtype=last.output.dtype)
    if last is down:
        result = build.op("mx.expand_dims", result, -2, shape=down.output.shape)
    replace_node(program, last, build.nodes, result)


def _home(program: Program, gated: _Gated) -> str:
    """Where the layer stands: the experts' own module, which holds nothing else, or a member of it."""
    own = {value.path for value in gated.params.values()}
    parents = {str(path).removesuffix(".weight").rpartition(".")[0] for path in own}
    parent = min(parents)
    read = {v.path for node in program.nodes for v in node.inputs() if v.is_parameter}
    others = {path for path in read - own if path is not None and path.startswith(f"{parent}.")}
    scope = gated.down.scope[-1].path if gated.down.scope else ""
    return f"{parent}.switch_mlp" if others or parent != scope else parent


def _weighted(program: Program, down: Node) -> tuple[Node, Value | None]:
    """The node behind which the experts' axis of one is gone, and the (..., k) weights that they are multiplied with before."""
    users = program.users()

    def only(value: Value) -> Node | None:
        readers = users.get(value, [])
        alone = len(readers) == 1 and value not in program.output_values()
        return readers[0] if alone else None

    def is_squeeze(node: Node | None) -> bool:
        return (
            node is not None
            and node.op == ".squeeze"
            and node.args[1] in (-2, down.output.rank - 2)
        )

    reader = only(down.output)
    if reader is not None and is_squeeze(reader):
        return reader, None
    if reader is not None and reader.op == "*":
        weights = next((other for x, other in commuted(reader) if x is down.output), None)
        expanded = producer(weights, "mx.expand_dims")
        squeezed = only(reader.output)
        if (
            expanded is not None
            and tuple(expanded.args[1]) == (-1, -2)
            and squeezed is not None
            and is_squeeze(squeezed)
        ):
            return squeezed, expanded.args[0]
    return down, None
