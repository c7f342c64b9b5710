"""Where a text's pictures come in: steps that put their features in the places of certain tokens, or add them there."""

from __future__ import annotations

from dataclasses import dataclass

from porter.ir import Node, Program, Value
from porter.passes.cache.find_text import Text
from porter.passes.cache.plan import NoCache
from porter.passes.factor.given import without


@dataclass(frozen=True, slots=True)
class Pictures:
    """`name`: the input; `merges`: where features come in; `alone`: what is computed for these alone."""

    name: str
    merges: list[Node]
    alone: set[Node]


def find_pictures(program: Program, text: Text) -> Pictures | None:
    """The merges and what is computed for them; None without other inputs than ids.

    The first merge is `mx.where(places, features, words)`; deeper features are added, `hidden + mx.where(places, features, 0)`.
    Nothing else may depend on the pictures: then a text without them is the same forward without the merges, and a cache
    needs to know nothing of them. Raises NoCache.
    """
    others = [value for value in program.inputs if value is not text.ids]
    if not others:
        return None
    if len(others) > 1 or not others[0].dtype.startswith("float"):
        raise NoCache(f"it takes {' and '.join(str(v.origin) for v in others)} beside the text")
    seen = set(others)
    merges: list[Node] = []
    for node in program.nodes:
        if not any(value in seen for value in node.inputs()):
            continue
        if _merges(node, seen, text) or (merges and _adds(node, seen, text)):
            merges.append(node)
        else:
            seen.update(node.outputs)
    if not merges or any(value in seen for value in program.output_values()):
        raise NoCache(
            "pictures bear on the text in other ways than by features in the places of tokens"
        )
    alone = _alone(program, merges)
    scope = merges[0].scope
    if not all(node.scope[: len(scope)] == scope for node in (*alone, *merges)):
        raise NoCache("pictures are encoded outside of the module that reads the text")
    if any(
        v in seen and n not in merges and n not in alone for n in program.nodes for v in n.inputs()
    ):
        raise NoCache("something else than the text reads the pictures")
    return Pictures(others[0].origin or "pixel_values", merges, alone)


def _merges(node: Node, seen: set[Value], text: Text) -> bool:
    """Whether each token is a feature or its own word."""
    if node.op != "mx.where" or node.output.rank != 3 or node.output.shape[:2] != text.ids.shape:
        return False
    places, features, words = node.args
    own = isinstance(words, Value) and words in text.depends and words.shape == node.output.shape
    return own and features in seen and words not in seen and places not in seen


def _adds(node: Node, seen: set[Value], text: Text) -> bool:
    """Whether features are added to certain tokens, and nothing to the others; they stand second then."""
    if node.op != "+" or node.output.rank != 3 or node.output.shape[:2] != text.ids.shape:
        return False
    if node.args[0] in seen:
        node.args.reverse()
    hidden, added = node.args
    maker = added.node if isinstance(added, Value) else None
    if maker is None or maker.op != "mx.where" or hidden in seen:
        return False
    places, features, nothing = maker.args
    return nothing == 0 and features in seen and places not in seen and places in text.depends


def _alone(program: Program, merges: list[Node]) -> set[Node]:
    """The nodes that nothing but the merges needs, those of the words themselves apart."""
    users, outputs = program.users(), set(program.output_values())
    words: set[Node] = set()
    stack = [without(merge) for merge in merges]
    while stack:
        node = stack.pop().node
        if node is not None and node not in words:
            words.add(node)
            stack += [without(node)] if node in merges else node.inputs()
    found = set(merges)
    for node in reversed(program.nodes):
        needed = any(value in outputs for value in node.outputs)
        readers = [user for value in node.outputs for user in users.get(value, ())]
        if readers and not needed and node not in words and all(r in found for r in readers):
            found.add(node)
    return found - set(merges)
