"""A loop over a list of layers: `for layer, c in zip(self.layers, cache): x = layer(x, mask, c)`."""

from __future__ import annotations

from porter.emit.names import variable
from porter.emit.statements import Statements
from porter.emit.syntax import ATOM, Text, call
from porter.ir import Node
from porter.passes.factor.tree import Block, Item, Loop, reads

#: What a loop over layers calls the cache of a layer, as mlx-lm does.
_CACHE_WORD = "c"


def write_loop(statements: Statements, loop: Loop) -> None:
    turn = loop.turns[0]
    carried = [slot for slot, place in enumerate(loop.carried) if place is not None]
    renamed: dict[int, str] = {}  # slots whose first value is read again after the loop
    for slot, value in enumerate(loop.slots[0]):
        if value.is_parameter or slot in loop.caches:
            continue
        if slot in loop.masks:
            for other in dict.fromkeys(slots[slot] for slots in loop.slots):
                statements.name(other)
            continue
        statements.left[value] -= 1
        if slot not in carried:
            statements.name(value)
            continue
        if value in statements.pending:
            statements.assign(value, statements.pending.pop(value))
        elif statements.left.get(value, 0) > 0:
            old = statements.names[value]
            fresh = statements.free_name(turn[-1].outputs[0], {old})
            statements.say(f"{fresh} = {old}")
            renamed[slot] = fresh
    slot_names = [
        renamed.get(slot)
        or (statements.places.parameter(v) if v.is_parameter else statements.names.get(v, ""))
        for slot, v in enumerate(loop.slots[0])
    ]
    for slot in carried:
        statements.flush(slot_names[slot], loop.slots[0][slot])
    iterable, word = statements.places.iterable(loop)
    word = variable(word, statements.busy() | set(slot_names), ("block", "layer", "module"))
    statements.say(f"for {_loop_words(statements, loop, iterable, word)}:")
    statements.indent += 1
    place_names = {
        place: slot_names[slot] for slot, place in enumerate(loop.carried) if place is not None
    }
    saved = dict(statements.names)
    statements.names.update({loop.slots[0][slot]: name for slot, name in renamed.items()})
    statements.names.update({loop.slots[0][slot]: _CACHE_WORD for slot in loop.caches})
    for slot in loop.masks:
        statements.names[loop.slots[0][slot]] = _mask_of_turn(statements, loop, slot)
    _turn(statements, loop, turn, word, place_names)
    statements.names = saved
    statements.indent -= 1
    produced = [value for item in loop.turns[-1] for value in item.outputs]
    for place, name in place_names.items():
        statements.names[produced[place]] = name
        statements.measure(produced[place], name)


def _loop_words(statements: Statements, loop: Loop, iterable: str, word: str) -> str:
    """`layer in self.layers`, with the cache and the kind of each layer beside it where there are."""
    words, lists = [word], [iterable]
    if loop.masks:
        words.append("kind")
        lists.append(statements.places.layer_kinds(loop))
    for slot in loop.caches:
        source = loop.slots[0][slot].node
        assert source is not None
        start, name = source.attrs["index"], statements.names[source.args[0]]
        words.append(_CACHE_WORD)
        lists.append(f"{name}[{start}:]" if start else name)
    if len(words) == 1:
        return f"{word} in {iterable}"
    return f"{', '.join(words)} in zip({', '.join(lists)})"


def _mask_of_turn(statements: Statements, loop: Loop, slot: int) -> str:
    column = {
        slots[slot].node.attrs["word"]: statements.names[slots[slot]]  # type: ignore[union-attr]
        for slots in loop.slots
    }
    *some, default = sorted(column, key=lambda word: column[word] == "mask")
    return "".join(f'{column[w]} if kind == "{w}" else ' for w in some) + column[default]


def _turn(
    statements: Statements, loop: Loop, turn: list[Item], word: str, place_names: dict[int, str]
) -> None:
    """The loop's body: the call and what follows it, with the carried arrays assigned at the end."""
    saved = (dict(statements.names), dict(statements.left))
    produced = [value for item in turn for value in item.outputs]
    for value in produced:
        statements.left[value] = sum(list(reads(item)).count(value) for item in turn) + (
            produced.index(value) in place_names
        )
    block = turn[0]
    assert isinstance(block, Block)
    args = [
        Text(statements.names[v], ATOM, 0, {statements.names[v]})
        if v in statements.names
        else Text(statements.places.parameter(v))
        for v in block.inputs
        if v is not None
    ]
    text = call(word, args)
    if len(turn) == 1:
        names = [place_names.get(place, "_") for place in range(len(produced))]
        while len(names) > 1 and names[-1] == "_" and len(block.outputs) == 1:
            names.pop()
        statements.say(f"{', '.join(names)} = {text.code}")
    else:
        statements.pending[block.outputs[0]] = text
        for node in turn[1:]:
            assert isinstance(node, Node)
            for value in node.inputs():
                statements.left[value] = statements.left.get(value, 0) + (value not in produced)
            result = statements.nodes.text(node)
            place = produced.index(node.output)
            if place in place_names:
                statements.say(f"{place_names[place]} = {result.code}")
            else:
                statements.keep(node.output, result)
    statements.names, statements.left = saved
