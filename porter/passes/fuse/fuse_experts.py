"""Mixtures of experts that gather a weight matrix for every chosen expert (Shazeer et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from porter.ir import Node, Program, Size, Value, values_in
from porter.ir.builder import Builder
from porter.ir.ops import ACTIVATIONS, ELEMENTWISE
from porter.lowering.parameters import permuted
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import commuted, producer

_LAYER = "nn.SwitchLinear"


class _Other(Exception):
    """The graph does something here that the pattern has no place for."""


@dataclass(slots=True)
class _Experts:
    """`table` has each array of (rows * chosen, ...) in its new form (*lead, chosen, 1, ...)."""

    lead: tuple[Size, ...]
    chosen: int
    builder: Builder
    table: dict[Value, Value] = field(default_factory=dict)


def fuse_experts(program: Program) -> int:
    """Tokens repeated for their experts, times gathered weights, become mlx-lm's SwitchLinear. Returns how many blocks.

    `repeat(x, k)`, `weight[experts.flatten()] @ x` and the weighted sum of the k results turn into products that take the
    stacked weights and the chosen experts, (..., k) of each token, without a copy of either.
    """
    count = 0
    for node in list(program.nodes):
        if node.op != "mx.repeat" or node.kwargs.get("axis") != 0 or node.output.rank != 2:
            continue
        for split in (True, False):
            try:
                _rewrite(program, node, split)
            except _Other:
                continue
            count += 1
            break
    if count:
        remove_dead(program)
    return count


def _rewrite(program: Program, repeat: Node, split: bool) -> None:
    """With `split` the rows are taken as (batch, length) where they were merged from that."""
    rows, chosen = repeat.args
    if not isinstance(chosen, int):
        raise _Other
    x = _unmerged(rows) if split else rows
    lead = x.shape[:-1]
    experts = _Experts(lead, chosen, Builder(repeat.scope, repeat.location))
    users = program.users()
    x = experts.builder.op(
        "mx.expand_dims", x, (-2, -3), shape=(*lead, 1, 1, x.shape[-1]), dtype=x.dtype
    )
    experts.table[repeat.output] = x
    total = repeat.output.shape[0]
    start = program.nodes.index(repeat)
    for node in program.nodes[start + 1 :]:
        if not any(value in experts.table for value in values_in([node.args, node.attrs])):
            if _is_choice(node, total, chosen):
                experts.table[node.output] = _choice(experts, node)
            continue
        experts.builder.scope, experts.builder.location = node.scope, node.location
        done = _mapped(experts, node, users)
        if done is not None:
            _finish(program, experts, node, done)
            return
    raise _Other


def _unmerged(rows: Value) -> Value:
    """(batch, length, width) of rows that were merged from it."""
    merged = producer(rows, ".reshape")
    if (
        merged is not None
        and merged.args[0].rank == 3
        and merged.args[0].shape[-1] == rows.shape[-1]
    ):
        source: Value = merged.args[0]
        return source
    return rows


def _is_choice(node: Node, total: Size, chosen: int) -> bool:
    """Whether it flattens what each token has for each of its experts: their numbers, their weights."""
    if node.op != ".reshape" or node.output.shape not in ((total,), (total, 1)):
        return False
    source = node.args[0]
    return isinstance(source, Value) and source.rank == 2 and source.shape[1] == chosen


def _choice(experts: _Experts, node: Node) -> Value:
    """(*lead, chosen) of a flattened (rows, chosen); with two axes behind it where it stands beside features."""
    source: Value = _unmerged(node.args[0]) if len(experts.lead) > 1 else node.args[0]
    if source.shape[:-1] != experts.lead:
        raise _Other
    return source


def _mapped(experts: _Experts, node: Node, users: dict[Value, list[Node]]) -> Value | None:
    """Adds the node's new form to the table; returns the result where the node is the last one, the sum over experts."""
    build, table, lead = experts.builder, experts.table, experts.lead
    full = (*lead, experts.chosen)
    if node.op == "[]" and node.args[0].is_parameter:
        return None  # a gathered weight: read where it is multiplied
    if node.op == "mx.expand_dims":
        table[node.output] = table[node.args[0]]
        return None
    if node.op == ".squeeze" or (node.op == ".reshape" and node.output.rank == 2):
        table[node.output] = table[node.args[0]]
        return None
    if node.op == "@":
        table[node.output] = _product(experts, node, users)
        return None
    if node.op == "+" and (biased := _with_bias(experts, node)) is not None:
        table[node.output] = biased
        return None
    if node.op == "mx.split" and node.kwargs.get("axis") == 1:
        x = table[node.args[0]]
        shapes = [(*x.shape[:-1], out.shape[-1]) for out in node.outputs]
        new = build.node(
            "mx.split", x, *node.args[1:], shapes=shapes, dtypes=[x.dtype] * len(shapes),
            axis=x.rank - 1,
        )  # fmt: skip
        table.update(zip(node.outputs, new.outputs, strict=True))
        for old, fresh in zip(node.outputs, new.outputs, strict=True):
            fresh.name = old.name
        return None
    if node.op == "[]" and len(node.attrs["key"]) == 2 and node.attrs["key"][0] == slice(None):
        x = table[node.args[0]]
        key = (*(slice(None),) * (x.rank - 1), node.attrs["key"][1])
        table[node.output] = build.index(x, key, (*x.shape[:-1], node.output.shape[-1]))
        return None
    if node.op == ".reshape" and node.output.shape[1:-1] == (experts.chosen,):
        x = table[node.args[0]]
        table[node.output] = x
        return None
    if node.op == "mx.sum" and node.kwargs.get("axis") in (1, (1,), [1]):
        x = table[node.args[0]]
        if x.shape[:-2] != full or x.shape[-2] != 1 or node.args[0].rank != 3:
            raise _Other
        x = build.op(".squeeze", x, -2, shape=(*full, x.shape[-1]), dtype=x.dtype)
        return build.op(
            "mx.sum", x, axis=len(lead), shape=(*lead, x.shape[-1]), dtype=node.output.dtype
        )
    if node.op in ELEMENTWISE or node.op in ACTIVATIONS:
        table[node.output] = _elementwise(experts, node)
        return None
    raise _Other


def _elementwise(experts: _Experts, node: Node) -> Value:
    """The same over the new forms; the experts' weights get two axes for the features."""
    build, table = experts.builder, experts.table
    flat = node.output.rank == 1  # numbers or weights of experts
    full = (*experts.lead, experts.chosen)

    def form(item: Any) -> Any:
        if not isinstance(item, Value) or item not in table:
            if isinstance(item, Value) and item.rank > 1:
                raise _Other
            return item
        value = table[item]
        if value.shape == full and not flat:
            return build.op(
                "mx.expand_dims", value, (-1, -2), shape=(*full, 1, 1), dtype=value.dtype
            )
        return value

    args = [form(item) for item in node.args]
    shape = full if flat else (*full, 1, node.output.shape[-1])
    result = build.op(node.op, *args, shape=shape, dtype=node.output.dtype, **node.kwargs)
    result.name = node.output.name
    return result


def _product(experts: _Experts, node: Node, users: dict[Value, list[Node]]) -> Value:
    """weight[e] @ x (or x @ weight[e]) as a SwitchLinear on the chosen experts."""
    for gathered, other, turned in ((*node.args, True), (*node.args[::-1], False)):
        gather = producer(gathered, "[]")
        if gather is None or not gather.args[0].is_parameter or gather.args[0].rank != 3:
            continue
        key = gather.attrs["key"]
        if len(key) != 1 or key[0] not in experts.table or len(users[gathered]) != 1:
            continue
        weight, x = gather.args[0], experts.table.get(other)
        if x is None:
            continue
        if not turned:  # (experts, in, out) as the source multiplies
            weight = permuted(weight, (0, 2, 1))
        number, outer, inner = weight.shape
        if x.shape[-1] != inner:
            raise _Other
        return experts.builder.node(
            _LAYER, x, experts.table[key[0]], dtypes=[node.output.dtype],
            shapes=[(*experts.lead, experts.chosen, 1, outer)], params={"weight": weight},
            attrs={"input_dims": inner, "output_dims": outer, "num_experts": number, "bias": False},
        ).output  # fmt: skip
    raise _Other


def _with_bias(experts: _Experts, node: Node) -> Value | None:
    """The product with its gathered bias, where that is what is added."""
    for product, added in commuted(node):
        gather = producer(added, "[]")
        layer = experts.table.get(product)
        if gather is None or layer is None or layer.node is None or layer.node.op != _LAYER:
            continue
        bias, key = gather.args[0], gather.attrs["key"]
        if not bias.is_parameter or bias.rank != 2 or len(key) != 1 or key[0] not in experts.table:
            continue
        layer.node.params["bias"] = bias
        layer.node.attrs["bias"] = True
        return layer
    return None


def _finish(program: Program, experts: _Experts, last: Node, result: Value) -> None:
    old = last.output
    result.name = old.name
    if result.shape != old.shape:  # the caller splits the rows again, and the two reshapes go
        experts.builder.scope = last.scope[:-1]
        result = experts.builder.reshape(result, old.shape)
    result.origin, result.permute = old.origin, old.permute
    position = program.nodes.index(last)
    program.nodes[position : position + 1] = experts.builder.nodes
    program.replace({old: result})
