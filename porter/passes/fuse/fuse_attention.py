"""Softmax attention spelled out with two matmuls (Vaswani et al. 2017)."""

from __future__ import annotations

from porter.ir import Node, Program, Size, Value
from porter.ir.builder import Builder, simplify
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import commuted, is_number, producer, replace_node

_SDPA = "mx.fast.scaled_dot_product_attention"


def fuse_attention(program: Program) -> int:
    """softmax(scale q k^T + mask) v becomes one call, the scale and the masks folded in. Returns how many were found.

    Scores that something else reads too stay spelled out.
    """
    count = 0
    for node in list(program.nodes):
        if node.op != "@" or node.output.rank != 4:
            continue
        builder = Builder(node.scope, node.location)
        found = _attention(program, node, builder)
        if found is not None:
            replace_node(program, node, builder.nodes, found)
            count += 1
    if count:
        remove_dead(program)
    return count


def _attention(program: Program, node: Node, builder: Builder) -> Value | None:
    users = program.users()

    def alone(value: Value) -> bool:
        return len(users.get(value, [])) == 1 and value not in program.output_values()

    weights, v = node.args
    softmax = producer(weights, "mx.softmax")
    if softmax is None or softmax.kwargs.get("axis") not in (-1, 3) or not alone(softmax.output):
        return None
    scores, masks, scale = softmax.args[0], [], 1.0
    while True:
        if not alone(scores):
            return None
        term = _peel_mask(scores, builder, alone)
        if term is not None:
            if scale != 1.0:
                return None  # the scale would have to apply to the mask as well
            scores, mask = term
            masks.append(mask)
            continue
        scaled = producer(scores, "*", "/")
        if scaled is not None and is_number(scaled.args[1]):
            scale *= scaled.args[1] if scaled.op == "*" else 1 / scaled.args[1]
            scores = scaled.args[0]
            continue
        break
    product = producer(scores, "@")
    if product is None:
        return None
    q, keys = product.args
    flipped = producer(keys, ".transpose")
    if flipped is None or tuple(flipped.args[1:]) != (0, 1, 3, 2):
        return None
    k = flipped.args[0]
    q, scale = _without_scale(q, scale)
    k, scale = _without_scale(k, scale)
    if not all(isinstance(x, Value) and x.rank == 4 for x in (q, k, v)):
        return None
    total: Value | None = None
    for added in reversed(masks):
        total = added if total is None else builder.op("+", total, added)
    if total is not None and total.rank < 4:
        total = builder.reshape(total, (1,) * (4 - total.rank) + total.shape)
    return builder.op(
        _SDPA, q, k, v, scale=scale, mask=total, shape=node.output.shape, dtype=node.output.dtype
    )


def _without_scale(x: Value, scale: float) -> tuple[Value, float]:
    scaled = producer(x, "*", "/")
    if scaled is not None and is_number(scaled.args[1]):
        return scaled.args[0], scale * (scaled.args[1] if scaled.op == "*" else 1 / scaled.args[1])
    return x, scale


def _peel_mask(scores: Value, builder: Builder, alone: object) -> tuple[Value, Value] | None:
    """(scores without it, the mask) where a mask is added, also one that repeats over windows of the batch."""
    added = producer(scores, "+")
    if added is not None:
        for inner, mask in commuted(added):
            if (
                isinstance(mask, Value)
                and isinstance(inner, Value)
                and _leads_to_scores(inner)
                and not _leads_to_scores(mask)
            ):
                return inner, mask
        return None
    outer = producer(scores, ".reshape")
    added = producer(outer.args[0], "+") if outer is not None else None
    if outer is None or added is None:
        return None
    for inner, mask in commuted(added):
        windows = producer(inner, ".reshape")
        if (
            windows is None
            or not isinstance(mask, Value)
            or (not mask.is_parameter and mask.rank > 5)
        ):
            continue
        repeated = _repeated_mask(windows, mask, outer.output.shape, builder)
        if (
            repeated is not None
            and windows.args[0].shape == outer.output.shape
            and callable(alone)
            and alone(windows.output)
        ):
            return windows.args[0], repeated
    return None


def _repeated_mask(
    windows: Node, mask: Value, shape: tuple[Size, ...], builder: Builder
) -> Value | None:
    """A (1, W, 1, L, S) mask over (B, W, H, L, S) scores as (B W, 1, L, S)."""
    grouped = windows.output.shape
    if (
        len(grouped) != 5
        or mask.rank != 5
        or mask.shape[0] != 1
        or mask.shape[2] != 1
        or mask.shape[1] != grouped[1]
    ):
        return None
    if simplify(grouped[0] * grouped[1] - shape[0]) != 0:
        return None
    flat = builder.reshape(mask, (mask.shape[1], 1, *mask.shape[3:]))
    return builder.op(
        "mx.tile",
        flat,
        (grouped[0], 1, 1, 1),
        shape=(shape[0], 1, *mask.shape[3:]),
        dtype=mask.dtype,
    )


def _leads_to_scores(value: Value) -> bool:
    """Whether a matmul of queries and keys lies behind scales, masks and reshapes."""
    for _ in range(8):
        if producer(value, "@") is not None:
            return True
        node = producer(value, "*", "/", "+", ".reshape")
        if node is None or not isinstance(node.args[0], Value):
            return False
        value = node.args[0]
    return False
