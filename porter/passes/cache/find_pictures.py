"""Where a text's pictures come in: one step puts their features in the places of certain tokens."""

from __future__ import annotations

from porter.ir import Node, Program, Value
from porter.passes.cache.find_text import Text
from porter.passes.cache.plan import NoCache


def find_pictures(program: Program, text: Text) -> tuple[Node, set[Node]] | None:
    """The merge, `mx.where(places, features, words)`, and what is computed for it alone; None without other inputs than ids.

    Nothing else may depend on the pictures: then a text without them is the same forward without the merge, and a cache needs
    to know nothing of them. Raises NoCache.
    """
    others = [value for value in program.inputs if value is not text.ids]
    if not others:
        return None
    if len(others) > 1 or not others[0].dtype.startswith("float"):
        raise NoCache(f"it takes {' and '.join(str(v.origin) for v in others)} beside the text")
    seen, merges = set(others), []
    for node in program.nodes:
        if not any(value in seen for value in node.inputs()):
            continue
        if _merges(node, seen, text):
            merges.append(node)
        else:
            seen.update(node.outputs)
    if len(merges) != 1 or any(value in seen for value in program.output_values()):
        raise NoCache("pictures bear on the text in more than one place")
    merge = merges[0]
    alone = _alone(program, merge)
    if not all(node.scope[: len(merge.scope)] == merge.scope for node in alone):
        raise NoCache("pictures are encoded outside of the module that reads the text")
    if any(
        v in seen and n is not merge and n not in alone for n in program.nodes for v in n.inputs()
    ):
        raise NoCache("something else than the text reads the pictures")
    return merge, alone


def _merges(node: Node, seen: set[Value], text: Text) -> bool:
    """Whether each token is a feature or its own word."""
    if node.op != "mx.where" or node.output.rank != 3 or node.output.shape[:2] != text.ids.shape:
        return False
    places, features, words = node.args
    own = isinstance(words, Value) and words in text.depends and words.shape == node.output.shape
    return own and features in seen and words not in seen and places not in seen


def _alone(program: Program, merge: Node) -> set[Node]:
    """The nodes that nothing but the merge needs, those of the words themselves apart."""
    users, outputs = program.users(), set(program.output_values())
    words: set[Node] = set()
    stack = [merge.args[2]]
    while stack:
        node = stack.pop().node
        if node is not None and node not in words:
            words.add(node)
            stack += node.inputs()
    found = {merge}
    for node in reversed(program.nodes):
        needed = any(value in outputs for value in node.outputs)
        readers = [user for value in node.outputs for user in users.get(value, ())]
        if readers and not needed and node not in words and all(r in found for r in readers):
            found.add(node)
    return found - {merge}
