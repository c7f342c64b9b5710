"""The masks of spelled-out attention scores: what is added to them, and what fills them."""

from __future__ import annotations

from collections.abc import Callable

from porter.ir import Node, Size, Value
from porter.ir.builder import Builder, simplify
from porter.passes.fuse.keep_booleans import negated
from porter.passes.fuse.match import commuted, is_number, producer

#: Scores filled with this or less have no weight in float32, whatever the others are.
NEVER = -1e4
#: The last number that a type holds, where it is above those that hide keys in float32.
LOWEST = {"float16": -65504.0}


def peel_mask(
    scores: Value, builder: Builder, alone: Callable[[Value], bool]
) -> tuple[Value, Value] | None:
    """(scores without it, the mask) where a mask is added, also one that repeats over windows of the batch.

    The mask is of the scores' type: a boolean one adds 1 and hides nothing, though MLX's attention would take it so.
    """
    added = producer(scores, "+")
    if added is not None:
        for inner, mask in commuted(added):
            if (
                isinstance(mask, Value)
                and isinstance(inner, Value)
                and leads_to_scores(inner, "mx.tanh")
                and not leads_to_scores(mask, "mx.tanh")
            ):
                return inner, builder.cast(mask, scores.dtype)
        return None
    outer = producer(scores, ".reshape")
    return _peel_grouped(outer, builder, alone) if outer is not None else None


def _peel_grouped(
    outer: Node, builder: Builder, alone: Callable[[Value], bool]
) -> tuple[Value, Value] | None:
    """The same where masks are added while the axes of the scores are in parts: windows, rows and columns."""
    shape = outer.output.shape
    found = _ungrouped(outer.args[0], shape, alone)
    if found is None or not found[1]:
        return None
    grouped, added = found
    mask, *others = (builder.cast(mask, grouped.output.dtype) for mask in added)
    for other in others:
        mask = builder.op("+", mask, other)
    if grouped.output.shape != outer.args[0].shape:
        return None
    flat = _repeated_mask(grouped, mask, shape, builder) or _joined(grouped, mask, shape, builder)
    return (grouped.args[0], flat) if flat is not None else None


def _joined(grouped: Node, mask: Value, shape: tuple[Size, ...], builder: Builder) -> Value | None:
    """The mask with its parts put together as those of the scores are; samples and heads, which stay, may be one in it."""
    parts = grouped.output.shape
    stay = next((i for i, (a, b) in enumerate(zip(parts, shape, strict=False)) if a != b), 0)
    if mask.rank != len(parts) or mask.shape[stay:] != parts[stay:]:
        return None
    return builder.reshape(mask, (*mask.shape[:stay], *shape[stay:]))


def _ungrouped(
    value: Value, shape: tuple[Size, ...], alone: Callable[[Value], bool]
) -> tuple[Node, list[Value]] | None:
    """The reshape of scores of that shape, and what is added to it."""
    node = producer(value, ".reshape", "+")
    if node is None or not alone(value):
        return None
    if node.op == ".reshape":
        scores = node.args[0]
        return (node, []) if scores.shape == shape and leads_to_scores(scores) else None
    for inner, mask in commuted(node):
        if isinstance(inner, Value) and isinstance(mask, Value):
            found = _ungrouped(inner, shape, alone)
            if found is not None:
                return found[0], [*found[1], mask]
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


def leads_to_scores(value: Value, *more: str, depth: int = 8) -> bool:
    """Whether a matmul of queries and keys lies behind scales, masks and reshapes, and `more` ops."""
    if producer(value, "@") is not None:
        return True
    node = producer(value, "*", "/", "+", ".reshape", "mx.where", *more)
    if node is None or not depth:
        return False
    sides = [a for a in node.args[node.op == "mx.where" :] if isinstance(a, Value)]
    return any(leads_to_scores(side, *more, depth=depth - 1) for side in sides)


def peel_fill(scores: Value, builder: Builder) -> tuple[Value, Value, float] | None:
    """(scores, which to keep, the number) of scores that are filled with a number that their softmax takes to 0."""
    node = producer(scores, "mx.where")
    if node is None:
        return None
    condition, yes, no = node.args
    for inner, fill, kept in ((no, yes, False), (yes, no, True)):
        if (
            isinstance(condition, Value)
            and isinstance(inner, Value)
            and is_number(fill)
            and fill <= NEVER
            and inner.shape == scores.shape
        ):
            return inner, condition if kept else negated(builder, condition), fill
    return None
