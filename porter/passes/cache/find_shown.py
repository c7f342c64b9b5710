"""A text with pictures whose tokens see some that follow: a picture's features each other, or a prompt all of itself."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from porter.ir import Node, Program, Value
from porter.ir.evaluate import Unknown
from porter.passes.cache.find_text import Text
from porter.passes.masks import Sight, shown, sight_of
from porter.passes.masks import Text as Sample

_LENGTH = 12  # of the texts that masks are compared on
_WORD, _NO_WORD = 1_000_000, -1


def find_shown(
    program: Program, mask: Value | str | None, text: Text
) -> tuple[Sight, Value] | None:
    """What a text without pictures lets each token see, and the mask of a text with them; None for any other mask.

    The mask is the first of these or more, by the ids: where they are features of a picture, or (no id is negative) always.
    """
    if not isinstance(mask, Value) or mask.dtype != "bool" or mask not in text.depends:
        return None
    samples = _samples(mask, text.ids)
    sight = sight_of(program, mask, text.ids, samples)
    plain = sight_of(program, mask, text.ids, samples[:1]) or sight_of(
        program, mask, text.ids, samples[1:2]
    )
    if sight is None or sight != plain or sight.chunk is not None:
        return None
    return sight, mask


def shows_all(program: Program, mask: Value, text: Text) -> bool:
    """Whether every token sees every other whatever the text."""
    try:
        found = [
            shown(program, mask, _LENGTH, {text.ids: mx.array(np.stack([sample(_LENGTH)] * 2))})
            for sample in _samples(mask, text.ids)[1:]
        ]
    except (Unknown, ValueError, IndexError):
        return False
    return all(seen is not None and bool(seen.all()) for seen in found)


def drop_guards(program: Program, masks: set[Value]) -> dict[Node, Value]:
    """What gives 0 to a query that sees no key, and what it leaves of the others: each token sees itself."""
    found: dict[Node, Value] = {}
    for node in program.nodes:
        asked = (
            node.args[0].node if node.op == "mx.where" and isinstance(node.args[0], Value) else None
        )
        if (
            asked is not None
            and asked.op == "mx.any"
            and asked.args[0] in masks
            and node.args[2] == 0
        ):
            found[node] = node.args[1]
    return found


def _samples(mask: Value, ids: Value) -> list[Sample]:
    """Texts without a certain token: of ids that are none, of words; then texts with each token that the mask asks for."""
    tokens = sorted(_compared(mask, ids))

    def constant(number: int) -> Sample:
        return lambda length: np.full(length, number, np.int32)

    def mixed(number: int, seed: int) -> Sample:
        return lambda length: np.where(
            np.random.default_rng(seed).random(length) < 0.6, number, _WORD
        ).astype(np.int32)

    return [constant(_NO_WORD), constant(_WORD)] + [
        mixed(token, seed) for seed, token in enumerate(2 * tokens)
    ]


def _compared(mask: Value, ids: Value) -> set[int]:
    """The numbers that the ids are compared with on the way to the mask."""
    found: set[int] = set()
    stack, seen = [mask], set()
    while stack:
        node = stack.pop().node
        if node is None or node in seen:
            continue
        seen.add(node)
        if ids in node.inputs():
            found |= {item for item in node.args if type(item) is int and item > 0}
        stack += node.inputs()
    return found
