"""How a source treats padding tokens apart: factors that make nothing of them, masks that hide them. A cache knows none."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import mlx.core as mx
import numpy as np

from porter.ir import Node, Program, Value
from porter.ir.evaluate import Unknown
from porter.passes.cache.find_text import Text
from porter.passes.fuse.match import commuted, is_number
from porter.passes.masks import Sight, sight_of
from porter.passes.positions import as_array, at_length, position_values

PADDING = "the source treats padding tokens apart; the port leaves padding to the cache, and takes no token for it"


def find_padding(program: Program, words: Collection[Value]) -> dict[Node, Value]:
    """Products with a factor that is 1 for every text without padding, and what they leave as it is.

    `words` say which tokens are not a certain one, which the source takes for padding.
    """
    made = position_values(program, words) - position_values(program)
    ones: dict[Value, bool] = {}
    found: dict[Node, Value] = {}
    for node in program.nodes if made else ():
        if node.op != "*":
            continue
        for kept, factor in commuted(node):
            if not isinstance(kept, Value) or factor not in made or kept in made:
                continue
            if kept.shape == node.output.shape and _is_one(program, factor, words, ones):
                found[node] = kept
    return found


def _is_one(
    program: Program, factor: Value, words: Collection[Value], known: dict[Value, bool]
) -> bool:
    if factor not in known:
        try:
            rows = [
                as_array(at_length(program, n, dict.fromkeys(words, mx.ones((2, n), mx.bool_)))(factor))
                for n in (6, 9)
            ]  # fmt: skip
        except (Unknown, ValueError, IndexError):
            rows = []
        known[factor] = bool(rows) and all((row == 1).all() for row in rows)
    return known[factor]


def compared_words(program: Program, ids: Value) -> set[Value]:
    """Which tokens are not a certain one: positions that leave out padding are counted from that."""
    return {
        node.output
        for node in program.nodes
        if node.op in ("!=", "mx.not_equal") and node.args[0] is ids and is_number(node.args[1])
    }


def unpadded(program: Program, mask: Any, text: Text) -> tuple[Sight, None] | None:
    """What a mask that hides a certain token lets each query see of the others."""
    if mask not in text.depends:
        return None
    for words in compared_words(program, text.ids):
        sight = sight_of(program, mask, words, [lambda length: np.ones(length, np.bool_)])
        if sight is not None:
            if PADDING not in program.notes:
                program.notes.append(PADDING)
            return sight, None
    return None
