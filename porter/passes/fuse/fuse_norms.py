"""Norms spelled out: root-mean-square (Zhang and Sennrich 2019) and layer norms (Ba et al. 2016)."""

from __future__ import annotations

from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.lowering.axes import channels_first, channels_last
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import commuted, is_number, producer, replace_node, through_casts
from porter.passes.fuse.misses import Missed, note_miss
from porter.passes.fuse.norm_parts import channel_parameter, is_square, reduced_axis


def fuse_norms(program: Program) -> int:
    """weight * x / sqrt(mean(x^2) + eps) becomes nn.RMSNorm, weight * (x - mean) / sqrt(var + eps) + bias nn.LayerNorm.

    A weight that is no parameter of the norm (1 + weight), or none, takes mx.fast. Returns how many were found.
    """
    count = _fuse_layer(program)  # first: a centered array's RMS norm is a layer norm
    remove_dead(program)
    count += _fuse_rms(program)
    remove_dead(program)
    return count


# --- root mean square


def _fuse_rms(program: Program) -> int:
    count = 0
    for node in program.nodes:
        if node.op != "*" or len(node.args) != 2:
            continue
        for weight, normed in commuted(node):
            if not (isinstance(weight, Value) and weight.rank == 1):
                continue
            found = _rms_normed(through_casts(normed))
            if found is None or found[0].shape[-1] != weight.shape[0]:
                continue
            x, eps = through_casts(found[0]), found[1]
            if x.dtype != node.output.dtype:
                note_miss(
                    program,
                    "an RMS norm",
                    node,
                    Missed(f"it takes {x.dtype} to {node.output.dtype}"),
                )
            elif weight.is_parameter:
                node.op, node.args = "nn.RMSNorm", [x]
                node.attrs, node.params = {"dims": weight.shape[0], "eps": eps}, {"weight": weight}
                count += 1
            else:
                node.op, node.args = "mx.fast.rms_norm", [x, weight, eps]
                count += 1
            break
    if count:
        remove_dead(program)
    for node in program.nodes:
        found = _rms_normed(node.output) if node.op in ("*", "/") else None
        if found is not None and found[0].dtype == node.output.dtype:
            node.op, node.args = "mx.fast.rms_norm", [found[0], None, found[1]]
            count += 1
    return count


def _rms_normed(value: Value) -> tuple[Value, float] | None:
    """(x, eps) where the value is x / sqrt(mean(x^2, last axis) + eps)."""
    for x, total in _quotients(value):
        for mean, eps in commuted(total):
            average = producer(mean, "mx.mean")
            if average is None or not is_number(eps) or not isinstance(x, Value):
                continue
            base = through_casts(x)
            if reduced_axis(average) == base.rank - 1 and is_square(average.args[0], base):
                return x, float(eps)
    return None


def _quotients(value: Value) -> list[tuple[Value, Node]]:
    """(x, the sum under the root) of x * rsqrt(sum), x / sqrt(sum), x * sum**-0.5 and so on."""
    found = []
    product = producer(value, "*")
    for x, inverse in commuted(product) if product is not None and len(product.args) == 2 else ():
        root = producer(inverse, "mx.rsqrt")
        power = producer(inverse, "**")
        quotient = producer(inverse, "/")
        if power is not None and is_number(power.args[1], -0.5):
            root = power
        elif quotient is not None and is_number(quotient.args[0], 1.0):
            root = _root(quotient.args[1])
        total = producer(root.args[0], "+") if root is not None else None
        if total is not None:
            found.append((x, total))
    quotient = producer(value, "/")
    root = _root(quotient.args[1]) if quotient is not None else None
    total = producer(root.args[0], "+") if root is not None else None
    if quotient is not None and total is not None:
        found.append((quotient.args[0], total))
    return found


def _root(value: object) -> Node | None:
    root = producer(value, "mx.sqrt", "**")
    return root if root is None or root.op == "mx.sqrt" or is_number(root.args[1], 0.5) else None


# --- mean and variance


def _fuse_layer(program: Program) -> int:
    count = 0
    for node in list(program.nodes):
        try:
            found = _layer_normed(node.output) if node.op in ("*", "/") else None
            if found is None:
                continue
            x, axis, eps = found
            if axis not in (x.rank - 1, 1) or not isinstance(x.shape[axis], int):
                raise Missed(f"it is over axis {axis} of {x.rank}")
            if x.dtype != node.output.dtype:
                raise Missed(f"it takes {x.dtype} to {node.output.dtype}")
        except Missed as reason:
            note_miss(program, "a layer norm", node, reason)
            continue
        last, params = _affine(program, node, x, axis)
        builder = Builder(last.scope, last.location)
        result = _layer(builder, x, axis, eps, params)
        replace_node(program, last, builder.nodes, result)
        count += 1
    return count


def _layer_normed(value: Value) -> tuple[Value, int, float] | None:
    """(x, axis, eps) where the value is (x - mean) / sqrt(var + eps)."""
    _check_deviation(value)
    for centered, total in _quotients(value):
        difference = producer(through_casts(centered), "-")
        mean = producer(difference.args[1], "mx.mean") if difference is not None else None
        if difference is None or mean is None or mean.args[0] is not difference.args[0]:
            continue
        x, axis = difference.args[0], reduced_axis(mean)
        for spread, eps in commuted(total):
            variance = producer(spread, "mx.var", "mx.mean")
            if (
                variance is None
                or not is_number(eps)
                or axis is None
                or reduced_axis(variance) != axis
            ):
                continue
            if variance.op == "mx.var":
                if variance.args[0] is not x:
                    continue
                if variance.kwargs.get("ddof"):
                    raise Missed("its variance is the unbiased one, over n - 1")
            elif not _is_centered_square(variance.args[0], x, mean):
                continue
            return x, axis, float(eps)
    return None


def _is_centered_square(value: Value, x: Value, mean: Node) -> bool:
    """(x - mean)^2, whether the difference was computed once or twice."""
    node = producer(value, "**", "mx.square", "*")
    if node is None or (node.op == "**" and not is_number(node.args[1], 2)):
        return False
    for side in node.args if node.op == "*" else node.args[:1]:
        difference = producer(side, "-")
        again = producer(difference.args[1], "mx.mean") if difference is not None else None
        same = (
            again is not None and again.args[0] is x and reduced_axis(again) == reduced_axis(mean)
        )
        if difference is None or difference.args[0] is not x or not same:
            return False
    return True


def _check_deviation(value: Value) -> None:
    """(x - mean) / (std + eps) is no layer norm."""
    quotient = producer(value, "/")
    shifted = producer(quotient.args[1], "+") if quotient is not None else None
    if shifted is not None and any(producer(a, "mx.std") is not None for a, _ in commuted(shifted)):
        raise Missed("eps is added to the deviation, not to the variance")


def _affine(program: Program, node: Node, x: Value, axis: int) -> tuple[Node, dict[str, Value]]:
    """The last node of the norm, and its weight and bias where the next nodes apply them."""
    params: dict[str, Value] = {}
    users = program.users()
    for op, role in (("*", "weight"), ("+", "bias")):
        readers = users.get(node.output, [])
        if len(readers) != 1 or readers[0].op != op or node.output in program.output_values():
            break
        other = next((b for a, b in commuted(readers[0]) if a is node.output), None)
        value = channel_parameter(other, x, axis)
        if value is None:
            break
        params[role], node = value, readers[0]
    return node, params


def _layer(builder: Builder, x: Value, axis: int, eps: float, params: dict[str, Value]) -> Value:
    first = axis != x.rank - 1
    last = builder.transpose(x, channels_last(x.rank)) if first else x
    if params:
        attrs = {"dims": last.shape[-1], "eps": eps, "affine": True, "bias": "bias" in params}
        result = builder.layer("nn.LayerNorm", last, params, last.shape, **attrs)
    else:
        result = builder.op(
            "mx.fast.layer_norm", last, None, None, eps, shape=last.shape, dtype=x.dtype
        )
    if first:
        result = builder.transpose(result, channels_first(x.rank))
    for node in builder.nodes:
        node.layout = node.op == ".transpose"
    return result
