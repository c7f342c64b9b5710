"""A loop over a list of layers: `for layer, c in zip(self.layers, cache): x = layer(x, mask, c)`."""

from __future__ import annotations

from porter.emit.names import variable
from porter.emit.statements import Statements
from porter.emit.syntax import Text, call
from porter.ir import Node, Value
from porter.passes.factor.blocks import Block, Item, Loop, all_reads

#: What a loop over layers calls the cache of a layer, as mlx-lm does.
_CACHE_WORD = "c"


def write_loop(statements: Statements, loop: Loop) -> None:
    turn = loop.turns[0]
    carried = [slot for slot, place in enumerate(loop.carried) if place is not None]
    renamed = _name_slots(statements, loop, carried)
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
    saved = (dict(statements.names), dict(statements.left), statements.reserved)
    lasting = {name for slot, name in enumerate(slot_names) if slot not in carried}
    statements.reserved = statements.reserved | statements.busy() | lasting | {word}
    statements.names.update({loop.slots[0][slot]: name for slot, name in renamed.items()})
    statements.names.update({loop.slots[0][slot]: _CACHE_WORD for slot in loop.caches})
    for slot in loop.masks:
        statements.names[loop.slots[0][slot]] = _mask_of_turn(statements, loop, slot)
    _turn(statements, turn, [loop.slots[0][slot] for slot in carried], word, place_names)
    statements.names, statements.left, statements.reserved = saved
    statements.indent -= 1
    produced = [value for item in loop.turns[-1] for value in item.outputs]
    for place, name in place_names.items():
        statements.names[produced[place]] = name
        statements.measure(produced[place], name)


def _name_slots(statements: Statements, loop: Loop, carried: list[int]) -> dict[int, str]:
    """Gives what the turns read from outside a name; those of carried arrays whose first value is read after the loop."""
    renamed: dict[int, str] = {}
    before = statements.reserved
    arrays = [v for v in loop.slots[0] if not v.is_parameter and v in statements.names]
    statements.reserved = before | {statements.names[v] for v in arrays}
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
        elif value in statements.pending:
            statements.assign(value, statements.pending.pop(value))
        elif statements.left.get(value, 0) > 0:
            old = statements.names[value]
            fresh = statements.free_name(loop.turns[0][-1].outputs[0], {old})
            statements.say(f"{fresh} = {old}")
            renamed[slot] = fresh
        statements.reserved |= {renamed.get(slot) or statements.names[value]}
    statements.reserved = before
    return renamed


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
    statements: Statements,
    turn: list[Item],
    carried: list[Value],
    word: str,
    place_names: dict[int, str],
) -> None:
    """The loop's body: the call and what follows it.

    A carried array's name holds what the turn before gave until nothing in this turn reads that any more.
    """
    produced = [value for item in turn for value in item.outputs]
    for value in (*produced, *carried):
        statements.left[value] = sum(all_reads(item).count(value) for item in turn)
    late: list[tuple[str, str]] = []

    def target(value: Value) -> str | None:
        """The name to give a value that the next turn reads; None for others."""
        statements.left[value] += 1  # by the next turn
        name = place_names.get(produced.index(value))
        if name is None:
            statements.left[value] -= 1
            return None
        if any(statements.names[old] == name and statements.left[old] > 0 for old in carried):
            late.append((name, statements.free_name(value, set(place_names.values()))))
            return late[-1][1]
        statements.flush(name, value)
        return name

    def give(value: Value, text: Text) -> None:
        name = target(value)
        if name is None:
            statements.keep(value, text)
        else:
            statements.say(f"{name} = {text.code}")
            statements.names[value] = name

    block = turn[0]
    assert isinstance(block, Block)
    text = call(word, [_argument(statements, value) for value in all_reads(block)])
    for value in all_reads(block):
        statements.left[value] = statements.left.get(value, 1) - 1
    if len(block.outputs) == 1:
        give(block.outputs[0], text)
    else:
        names: list[str] = []
        for value in block.outputs:
            name = target(value)
            if name is None and statements.left[value] > 0:
                name = statements.free_name(value, {*names, *place_names.values()})
            names.append(name or "_")
            statements.names[value] = names[-1]
        statements.say(f"{', '.join(names)} = {text.code}")
    for node in turn[1:]:
        assert isinstance(node, Node)
        for value in node.inputs():
            if value not in produced and value not in carried:  # it is read in every turn
                statements.left[value] = statements.left.get(value, 0) + 1
        give(node.output, statements.nodes.text(node))
    for name, local in late:
        statements.say(f"{name} = {local}")


def _argument(statements: Statements, value: Value) -> Text:
    name = statements.names.get(value)
    return Text(statements.places.parameter(value)) if name is None else Text(name, names={name})
