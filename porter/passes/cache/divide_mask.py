"""What a mask does beside hiding keys: ALiBi and other biases by distance, and conditions on positions or tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from porter.ir import Program, Value
from porter.ir.evaluate import Unknown
from porter.passes.fuse.match import commuted, is_number, producer
from porter.passes.masks import HIDDEN, Sight, sight_of
from porter.passes.positions import as_array, at_length


def divide_mask(program: Program, mask: Any) -> tuple[Sight, Value | None] | None:
    """What each query sees, and the rest of the mask: added to the scores, or another condition. None for no causal mask."""
    sight = sight_of(program, mask)
    if sight is not None:
        return sight, None
    if not isinstance(mask, Value):
        return None
    for seen, rest, _ in parts_of(mask):
        found = divide_mask(program, seen)
        if found is None or found[0].chunk is not None:
            continue
        sight, more = found
        if more is None:
            return (Sight(), mask) if sight.window is not None else (sight, rest)
    for part in _within(mask):
        found = divide_mask(program, part)
        if found is not None and found[0] == Sight():
            return Sight(), mask
    return (Sight(), mask) if _hides_what_follows(program, mask) else None


def parts_of(mask: Value) -> Iterator[tuple[Value, Value, float]]:
    """(what shows keys, the rest, what hidden keys get) as a mask, or masked scores, may be made of them."""
    node = mask.node
    if node is None:
        return
    if node.op in ("+", "&", "mx.logical_and"):
        for a, b in commuted(node):
            if isinstance(a, Value) and isinstance(b, Value):
                yield a, b, -np.inf
    if node.op == "mx.where":
        condition, kept, other = node.args
        if is_number(other) and other <= HIDDEN and isinstance(kept, Value):
            yield condition, kept, other
        hiding = producer(condition, "~", "mx.logical_not")
        if is_number(kept) and kept <= HIDDEN and isinstance(other, Value) and hiding is not None:
            yield hiding.args[0], other, kept
    if node.op == "mx.broadcast_to":
        yield from parts_of(node.args[0])


def _within(mask: Value) -> Iterator[Value]:
    """Masks that hide no more than the mask does: it has more axes, or hides more keys."""
    node = mask.node
    if node is None:
        return
    key = node.attrs.get("key", ())
    if node.op in ("mx.expand_dims", "[]") and all(part in (None, slice(None)) for part in key):
        yield node.args[0]
    if node.op == "mx.where":
        _, kept, other = node.args
        if is_number(kept) and kept <= HIDDEN and isinstance(other, Value):
            yield other
        if is_number(other) and other <= HIDDEN and isinstance(kept, Value):
            yield kept


def _hides_what_follows(program: Program, mask: Value) -> bool:
    """Whether a mask made of positions hides every key after its query, whatever else it does."""
    try:
        array = as_array(at_length(program, 40)(mask))
    except (Unknown, ValueError, IndexError):
        return False
    hidden = ~array if array.dtype == bool else array < HIDDEN
    if hidden.shape[-2:] != (40, 40):
        return False
    return bool(hidden[..., np.triu(np.ones((40, 40), bool), 1)].all())
