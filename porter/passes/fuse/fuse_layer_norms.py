"""Norms by mean and variance that are spelled out: layer norms (Ba et al. 2016), and those of groups and of instances."""

from __future__ import annotations

from dataclasses import dataclass, field

from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.lowering.axes import channels_first, channels_last
from porter.passes.fuse.match import commuted, is_number, producer, replace_node, through_casts
from porter.passes.fuse.misses import Missed, note_miss
from porter.passes.fuse.norm_parts import channel_parameter, quotients, reduced_axes


def fuse_layer_norms(program: Program) -> int:
    """weight * (x - mean) / sqrt(var + eps) + bias becomes nn.LayerNorm, nn.GroupNorm or nn.InstanceNorm.

    Which one it is, the axes tell. A layer norm without weights takes mx.fast. Returns how many were found.
    """
    count = 0
    for node in list(program.nodes):
        try:
            norm = _normed(node.output) if node.op in ("*", "/") else None
            if norm is None:
                continue
            _check_alone(program, norm, node)
            form = _form(program, node, norm)
            if norm.x.dtype != node.output.dtype:
                raise Missed(f"it takes {norm.x.dtype} to {node.output.dtype}")
        except Missed as reason:
            note_miss(program, "a layer norm", node, reason)
            continue
        builder = Builder(form.last.scope, form.last.location)
        result = _layer(builder, norm, form)
        replace_node(program, form.last, builder.nodes, result)
        count += 1
    return count


@dataclass(slots=True)
class _Norm:
    """(x - mean) / sqrt(var + eps) over some axes; its weight where it stands in the numerator."""

    x: Value
    axes: tuple[int, ...]
    eps: float
    mean: Node
    variance: Node
    factor: Value | None


@dataclass(slots=True)
class _Form:
    """The layer that a norm is, its channels' axis, and the last node that it stands for, which has the axes in an order."""

    op: str
    axis: int
    last: Node
    order: tuple[int, ...]
    params: dict[str, Value] = field(default_factory=dict)


def _normed(value: Value) -> _Norm | None:
    _check_deviation(value)
    for numerator, total in quotients(value):
        difference, factor = _difference(through_casts(numerator))
        mean = producer(difference.args[1], "mx.mean") if difference is not None else None
        if difference is None or mean is None or mean.args[0] is not difference.args[0]:
            continue
        x, axes = difference.args[0], reduced_axes(mean)
        for spread, eps in commuted(total):
            variance = producer(spread, "mx.var", "mx.mean")
            if variance is None or not is_number(eps) or not axes:
                continue
            if reduced_axes(variance) != axes:
                continue
            if variance.op == "mx.var":
                if variance.args[0] is not x:
                    continue
                if variance.kwargs.get("ddof"):
                    raise Missed("its variance is the unbiased one, over n - 1")
            elif not _is_centered_square(variance.args[0], x, axes):
                continue
            return _Norm(x, axes, float(eps), mean, variance, factor)
    return None


def _difference(value: Value) -> tuple[Node | None, Value | None]:
    """x - mean, and what it is multiplied by before it is divided."""
    product = producer(value, "*")
    for factor, inner in (
        commuted(product) if product is not None and len(product.args) == 2 else ()
    ):
        difference = producer(inner, "-")
        if difference is not None and isinstance(factor, Value):
            return difference, factor
    return producer(value, "-"), None


def _is_centered_square(value: Value, x: Value, axes: tuple[int, ...]) -> bool:
    """(x - mean)^2, whether the difference was computed once or twice."""
    node = producer(value, "**", "mx.square", "*")
    if node is None or (node.op == "**" and not is_number(node.args[1], 2)):
        return False
    for side in node.args if node.op == "*" else node.args[:1]:
        difference = producer(side, "-")
        again = producer(difference.args[1], "mx.mean") if difference is not None else None
        same = again is not None and again.args[0] is x and reduced_axes(again) == axes
        if difference is None or difference.args[0] is not x or not same:
            return False
    return True


def _check_deviation(value: Value) -> None:
    """(x - mean) / (std + eps) is no layer norm."""
    quotient = producer(value, "/")
    shifted = producer(quotient.args[1], "+") if quotient is not None else None
    if shifted is not None and any(producer(a, "mx.std") is not None for a, _ in commuted(shifted)):
        raise Missed("eps is added to the deviation, not to the variance")


def _check_alone(program: Program, norm: _Norm, end: Node) -> None:
    """A series that is scaled back in the end needs its mean and deviation, which no layer hands out."""
    users, outputs = program.users(), program.output_values()
    node = norm.variance
    alone = all(user.op == "-" and user.args[0] is norm.x for user in users[norm.mean.output])
    while alone and node is not end:
        readers = users.get(node.output, [])
        alone = len(readers) == 1 and node.output not in outputs
        node = readers[0] if readers else end
    if not alone or norm.mean.output in outputs:
        raise Missed("its mean or its deviation is read elsewhere too")


def _form(program: Program, node: Node, norm: _Norm) -> _Form:
    """The first layer over these axes whose channels the weights belong to; without weights the first."""
    rank, axes, plain = norm.x.rank, norm.axes, None
    for op, axis in _candidates(rank, axes):
        if not isinstance(norm.x.shape[axis], int):
            continue
        form = _with_weights(program, node, norm, op, axis)
        if form.params:
            return form
        plain = plain or form
    if plain is None or norm.factor is not None or plain.op == "nn.GroupNorm":
        named = f"axis {axes[0]}" if len(axes) == 1 else f"axes {', '.join(map(str, axes))}"
        raise Missed(f"it is over {named} of {rank}")
    return plain


def _candidates(rank: int, axes: tuple[int, ...]) -> list[tuple[str, int]]:
    """(layer, axis of its channels)"""
    last = rank - 1
    found = [("nn.LayerNorm", axes[0])] if axes in ((1,), (last,)) else []
    if axes == tuple(range(1, rank)) and rank > 2:
        return [("nn.GroupNorm", 1), ("nn.GroupNorm", last)]
    for axis in (1, last) if rank > 2 else ():
        if axes == tuple(a for a in range(1, rank) if a != axis):
            found.append(("nn.InstanceNorm", axis))
    return found


def _with_weights(program: Program, node: Node, norm: _Norm, op: str, axis: int) -> _Form:
    """The layer with the weight and bias that the next nodes apply, the author's transposes between them or not."""
    params: dict[str, Value] = {}
    order = tuple(range(norm.x.rank))
    form = _Form(op, axis, node, order)
    if norm.factor is not None:
        weight = channel_parameter(norm.factor, norm.x, axis)
        if weight is None:
            return form
        params["weight"] = weight
    users, outputs = program.users(), program.output_values()
    last, turned = node, order  # with the author's transposes behind it
    while node.output not in outputs and len(users.get(node.output, [])) == 1:
        reader = users[node.output][0]
        if reader.op == ".transpose":
            node, turned = reader, tuple(turned[a] for a in reader.args[1:])
            continue
        role = {"*": "weight", "+": "bias"}.get(reader.op, "")
        if not role or role in params or "bias" in params:
            break
        other = next((b for a, b in commuted(reader) if a is node.output), None)
        value = channel_parameter(other, node.output, turned.index(axis))
        if value is None:
            break
        params[role] = value
        node = last = reader
        order = turned
    whole = len(params) == 2
    if params and (whole or (op == "nn.LayerNorm" and "weight" in params)):
        return _Form(op, axis, last, order, params)
    return form


def _layer(builder: Builder, norm: _Norm, form: _Form) -> Value:
    x = norm.x
    first = form.axis != x.rank - 1
    last = builder.transpose(x, channels_last(x.rank)) if first else x
    attrs = {"dims": last.shape[-1], "eps": norm.eps, "affine": bool(form.params)}
    if form.op == "nn.GroupNorm":
        attrs = {"num_groups": 1, **attrs, "pytorch_compatible": True}
    if form.op == "nn.LayerNorm" and not form.params:
        result = builder.op(
            "mx.fast.layer_norm", last, None, None, norm.eps, shape=last.shape, dtype=x.dtype
        )
    else:
        if form.op == "nn.LayerNorm":
            attrs["bias"] = "bias" in form.params
        result = builder.layer(form.op, last, form.params, last.shape, **attrs)
    if first:
        result = builder.transpose(result, channels_first(x.rank))
    if form.order != tuple(range(x.rank)):
        result = builder.transpose(result, form.order)
    for node in builder.nodes:
        node.layout = node.op == ".transpose"
    return result
