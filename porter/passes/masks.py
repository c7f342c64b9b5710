"""What an attention mask made of positions lets each query see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from porter.ir import Node, Program, Value
from porter.ir.evaluate import Unknown
from porter.passes.positions import as_array, at_length

_SHORT = 40  # positions that a mask is evaluated on
_SMALL = 5  # what stands in for a large window while its mask is evaluated on few positions
#: Token ids of a text of some length.
Text = Callable[[int], np.ndarray]
HIDDEN = -1e4  # an additive mask that is lower than this hides a key


@dataclass(frozen=True, slots=True)
class Sight:
    """A query sees keys up to itself: all of them, the last `window`, or those of its own chunk of `chunk` positions."""

    window: int | None = None
    chunk: int | None = None


def sight_of(
    program: Program, mask: Value | str | None, ids: Value | None = None, texts: Sequence[Text] = ()
) -> Sight | None:
    """What a mask of shape (..., length, length) lets each query see; None for any other mask, and for no mask at all.

    The mask is boolean, or added to the scores: 0 or very negative. It is evaluated; a window of many positions stands in
    its graph as a number, in whose place a small one is tried. Where the token ids `ids` bear on the mask: what it shows in
    each of the texts.
    """
    if mask == "causal":
        return Sight()
    if not isinstance(mask, Value) or mask.rank < 2:
        return None
    try:
        nodes = list(_ancestors(mask))
        stored = [v for node in nodes for v in node.inputs() if v.is_parameter and v.rank >= 2]
        longest = min([v.shape[-1] for v in [*stored, mask] if isinstance(v.shape[-1], int)] or [0])
        given = [(ids, text) for text in texts] if ids is not None else []
        seen = _evaluated(program, mask, min(longest, 1024) if longest else _SHORT, given)
        if seen is None:
            return None
        for number in sorted({n for node in nodes for n in _numbers(node)}):
            with_small = _with(program, mask, nodes, number, given)
            if with_small is None:
                continue
            found = _sight(with_small)
            if found is not None and found != Sight():
                return _restored(found, number)
        return _sight(seen)
    except (Unknown, ValueError, IndexError):
        return None


def _ancestors(value: Value) -> Iterator[Node]:
    seen: set[Node] = set()
    stack = [value]
    while stack:
        node = stack.pop().node
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            stack += node.inputs()


def _numbers(node: Node) -> Iterator[int]:
    """Whole numbers in a node's arithmetic that may be a window's size."""
    if node.op in ("+", "-", "<", "<=", ">", ">=", "//", "/"):
        for item in node.args:
            whole = isinstance(item, (int, float)) and not isinstance(item, bool) and item % 1 == 0
            if whole and abs(item) >= _SHORT // 2:
                yield int(item)


def _with(
    program: Program, mask: Value, nodes: list[Node], number: int, given: list[tuple[Value, Text]]
) -> np.ndarray | None:
    """The mask with a small number in the place of a large one (and of its negative)."""
    saved = [(node, node.args) for node in nodes]
    try:
        for node in nodes:
            if number in _numbers(node):
                node.args = [_small(item, number) for item in node.args]
        return _evaluated(program, mask, _SHORT, given)
    finally:
        for node, args in saved:
            node.args = args


def _small(item: Any, number: int) -> Any:
    if isinstance(item, (int, float)) and not isinstance(item, bool) and item == number:
        return type(item)(_SMALL if number > 0 else -_SMALL)
    return item


def _restored(sight: Sight, number: int) -> Sight:
    shift = abs(number) - _SMALL
    return Sight(
        sight.window + shift if sight.window is not None else None,
        sight.chunk + shift if sight.chunk is not None else None,
    )


def _evaluated(
    program: Program, mask: Value, length: int, given: list[tuple[Value, Text]]
) -> np.ndarray | None:
    """(length, length) booleans: which key each query sees; None where samples or heads differ."""
    known = [{ids: mx.array(np.stack([text(length)] * 2))} for ids, text in given]
    found = [shown(program, mask, length, values) for values in known or [{}]]
    if any(x is None for x in found):
        return None
    flat = np.concatenate([x for x in found if x is not None])
    if given:
        return np.asarray(flat.all(axis=0))
    return flat[0] if (flat == flat[0]).all() else None


def shown(
    program: Program, mask: Value, length: int, known: dict[Value, mx.array]
) -> np.ndarray | None:
    """(samples and heads, length, length) booleans: which key each query sees."""
    array = as_array(at_length(program, length, known)(mask))
    if array.dtype != bool:  # added to the scores
        if not ((array == 0) | (array < HIDDEN)).all():
            return None
        array = array == 0
    return array.reshape(-1, length, length) if array.shape[-2:] == (length, length) else None


def _sight(seen: np.ndarray) -> Sight | None:
    """The sight that gives exactly this matrix."""
    length = len(seen)
    query, key = np.arange(length)[:, None], np.arange(length)[None]
    causal = key <= query
    if (seen == causal).all():
        return Sight()
    window = int(seen[-1].sum())
    if window and (seen == (causal & (key > query - window))).all():
        return Sight(window=window)
    chunk = int(seen[:, 0].sum())
    if chunk and (seen == (causal & (query // chunk == key // chunk))).all():
        return Sight(chunk=chunk)
    return None
