"""Where an encoder's work ends: what it hands to the decoder, once for the whole text."""

from __future__ import annotations

from porter.ir import Frame, Memory, Program, Value
from porter.passes.cache.find_text import Text
from porter.passes.cache.plan import NoCache


def find_memory(program: Program, text: Text, holder: tuple[Frame, ...], crossed: int) -> Memory:
    """The arrays that the tokens look at, where they enter the decoder; `holder` are the module calls around its layers.

    What else the decoder reads of the inputs (a padding mask) it reads itself.
    """
    depth = len(holder) + 1
    layers = {node.scope[:depth] for node in (*text.own, *text.crossed)}
    inside = {
        node
        for node in program.nodes
        if node.scope[:depth] in layers
        or any(value in text.depends or _is_long(value, text) for value in node.inputs())
        or any(_is_long(value, text) for value in node.outputs)
        or (holder and node.scope[: len(holder)] == holder)
    }
    others = [value for value in program.output_values() if value not in text.depends]
    found: dict[Value, None] = {}
    seen: set[Value] = set()
    stack = [text.logits]
    while stack:
        value = stack.pop()
        if value in seen or value.is_parameter:
            continue
        seen.add(value)
        node = value.node
        if node is None:
            if value.dtype.startswith("float"):
                raise NoCache(f"the decoder reads {value!r} itself")
            continue
        if value in others or (node not in inside and _has_weights(value)):
            found[value] = None
        else:
            stack += node.inputs()
    lost = [value for value in others if value not in found]
    if not found or lost:
        raise NoCache(
            f"the output {lost[0]!r} is not what the decoder reads"
            if lost
            else "nothing is encoded"
        )
    if text.ids in _inputs_of(found):
        raise NoCache("what the tokens look at depends on them")
    return Memory(text.ids, text.logits, list(found)[::-1], crossed)


def _is_long(value: Value, text: Text) -> bool:
    """Whether it has a row for each token of the text."""
    return any(text.length in getattr(size, "free_symbols", ()) for size in value.shape)


def name_memory(text: Text, memory: Memory) -> None:
    """The words for what the tokens look at, the same in every module."""
    if len(memory.values) == 1:
        memory.values[0].name = "memory"
    for node in text.crossed:
        if isinstance(mask := node.kwargs.get("mask"), Value):
            mask.name = "memory_mask"


def _has_weights(value: Value) -> bool:
    """Whether weights bear on the value, as they do on all that is encoded."""
    stack, seen = [value], {value}
    while stack:
        node = stack.pop().node
        for other in node.inputs() if node is not None else ():
            if other.is_parameter and other.data is None:
                return True
            if other not in seen:
                seen.add(other)
                stack.append(other)
    return False


def _inputs_of(values: dict[Value, None]) -> set[Value]:
    stack, seen = list(values), set(values)
    while stack:
        node = stack.pop().node
        for other in node.inputs() if node is not None else ():
            if other not in seen:
                seen.add(other)
                stack.append(other)
    return {value for value in seen if value.node is None and not value.is_parameter}
