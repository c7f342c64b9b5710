"""Factors by which a source makes nothing of padding tokens: a cache knows no token for padding."""

from __future__ import annotations

from collections.abc import Collection

import mlx.core as mx

from porter.ir import Node, Program, Value
from porter.ir.evaluate import Unknown
from porter.passes.fuse.match import commuted
from porter.passes.positions import as_array, at_length, position_values


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
