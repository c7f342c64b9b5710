"""What the caches of a decoder's layers are, and the words for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from porter.passes.masks import Sight


@dataclass(frozen=True, slots=True)
class State:
    """`slots` arrays that a layer carries from token to token, in an ArraysCache."""

    slots: int


#: Of a layer with a state and attention: both, the state first. After what attention sees come caches of the same kind for
#: what else it takes of all tokens.
Kind: TypeAlias = Sight | State | tuple[Sight | State, ...]

#: The kinds of layers, as configurations name them in `layer_types`.
SLIDING, CHUNKED, FULL = "sliding_attention", "chunked_attention", "full_attention"
LINEAR, HYBRID = "linear_attention", "hybrid"


def layer_words(kinds: list[Kind], config: dict[str, Any]) -> tuple[str, ...]:
    """A word for each layer: the source's own, where its `layer_types` tell the same layers apart."""
    own = config.get("layer_types")
    if isinstance(own, (list, tuple)) and len(own) == len(kinds):
        pairs = set(zip(own, kinds, strict=True))
        if len(pairs) == len(set(own)) == len(set(kinds)):
            return tuple(own)
    return tuple(map(_word, kinds))


def _word(kind: Kind) -> str:
    if isinstance(kind, tuple):
        first = kind[0]
        return HYBRID if isinstance(first, State) else f"indexed_{_word(first)}"
    if isinstance(kind, State):
        return LINEAR
    if kind.chunk is not None:
        return CHUNKED
    return FULL if kind.window is None else SLIDING
