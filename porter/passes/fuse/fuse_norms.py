"""Root-mean-square norms spelled out (Zhang and Sennrich 2019)."""

from __future__ import annotations

from porter.ir import Node, Program, Value
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import commuted, is_number, producer, through_casts


def fuse_norms(program: Program) -> int:
    """weight * (x * rsqrt(mean(x^2) + eps)) becomes nn.RMSNorm. Returns how many were found."""
    count = 0
    for node in program.nodes:
        if node.op != "*" or len(node.args) != 2:
            continue
        for weight, normed in commuted(node):
            if not (isinstance(weight, Value) and weight.is_parameter and weight.rank == 1):
                continue
            found = _normed(through_casts(normed))
            if (
                found is None
                or found[0].shape[-1] != weight.shape[0]
                or found[0].dtype != node.output.dtype
            ):
                continue
            x, eps = found
            node.op, node.args = "nn.RMSNorm", [x]
            node.attrs, node.params = {"dims": weight.shape[0], "eps": eps}, {"weight": weight}
            count += 1
            break
    if count:
        remove_dead(program)
    return count


def _normed(value: Value) -> tuple[Value, float] | None:
    """(x, eps) where the value is x * rsqrt(mean(x^2, last axis) + eps)."""
    product = producer(value, "*")
    if product is None:
        return None
    for x, inverse in commuted(product):
        root = producer(inverse, "mx.rsqrt")
        total = producer(root.args[0], "+") if root is not None else None
        if total is None:
            continue
        for mean, eps in commuted(total):
            average = producer(mean, "mx.mean")
            if average is None or not is_number(eps) or not average.kwargs.get("keepdims"):
                continue
            axis = average.kwargs.get("axis")
            axis = axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis
            base = through_casts(x)
            if axis in (-1, base.rank - 1) and _is_square(average.args[0], base):
                return base, float(eps)
    return None


def _is_square(value: Value, x: Value) -> bool:
    node: Node | None = producer(value, "**", "mx.square", "*")
    if node is None or through_casts(node.args[0]) is not x:
        return False
    if node.op == "mx.square":
        return True
    return is_number(node.args[1], 2) if node.op == "**" else through_casts(node.args[1]) is x
