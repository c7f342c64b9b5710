"""The statements that read and update a decoder's cache, or add up what several processes share."""

from __future__ import annotations

from collections.abc import Callable

from porter.emit.decoder import OVER_PROCESSES
from porter.emit.names import variable
from porter.emit.statements import Statements
from porter.emit.syntax import Text
from porter.ir import Node


def _update(statements: Statements, node: Node) -> None:
    """Keys and values go through the cache, where there is one, and keep their names."""
    if node.attrs.get("once"):
        _fetch_once(statements, node)
        return
    *operands, cache = node.args
    for value, text in list(statements.pending.items()):
        if f"{statements.read(cache).code}.offset" in text.code:  # which changes now
            statements.assign(value, statements.pending.pop(value))
    names: list[str] = []
    for value, name in zip(operands, ("k", "v"), strict=True):
        text = statements.read(value)
        if statements.left.get(value, 0):  # what the cache doesn't hold yet is read again
            kept = (
                text.code
                if text.code in statements.names.values()
                else statements.assign(value, text)
            )
            names.append(variable(name, statements.busy() | set(names), (name, "h", "r", "z")))
            statements.say(f"{names[-1]} = {kept}")
            continue
        own = text.code in statements.names.values() and not statements.left.get(value, 0)
        if not own or text.code in names or text.code in statements.names_of_inputs:
            fresh = variable(
                value.name or name, statements.busy() | set(names), (name, "h", "r", "z")
            )
            text = Text(statements.assign(value, text, fresh))
        names.append(text.code)
    state = statements.read(cache).code
    for name, value in zip(names, node.outputs, strict=True):
        statements.flush(name, value)
        statements.names[value] = name
    pair = ", ".join(names)
    statements.say(f"if {state} is not None:")
    statements.say(f"    {pair} = {state}.update_and_fetch({pair})")


def _fetch_once(statements: Statements, node: Node) -> None:
    """Keys and values of what stays the same are made for the first token alone."""
    *operands, cache = node.args
    state = statements.read(cache).code
    texts = [statements.read(value) for value in operands]
    names: list[str] = []
    for value, text in zip(operands, texts, strict=True):
        busy = statements.busy() | set(names) | {n for t in texts if t is not text for n in t.names}
        names.append(variable(value.name or ("k", "v")[len(names)], busy, ("h", "r", "z")))
    pair = ", ".join(names)
    for name, value in zip(names, node.outputs, strict=True):
        statements.flush(name, value)
        statements.names[value] = name
    statements.say(f"if {state} is None or {state}.keys is None:")
    statements.indent += 1
    for name, text in zip(names, texts, strict=True):
        if name != text.code:
            statements.say(f"{name} = {text.code}")
    statements.say(f"if {state} is not None:")
    statements.say(f"    {pair} = {state}.update_and_fetch({pair})")
    statements.indent -= 1
    statements.say("else:")
    statements.say(f"    {pair} = {state}.keys, {state}.values")


def _advance(statements: Statements, node: Node) -> None:
    """The cache of a state counts the tokens, for texts that are padded."""
    value, cache = node.args
    name = statements.name(value)
    state = statements.read(cache).code
    statements.left[value] -= 1
    statements.names[node.output] = name
    statements.say(f"if {state} is not None:")
    statements.say(f"    {state}.advance({name}.shape[1])")


def _add_up(statements: Statements, node: Node) -> None:
    """What a module adds up over the processes that share it, where there are any."""
    value = node.args[0]
    name = statements.name(value)
    statements.left[value] -= 1
    statements.flush(name, value)
    statements.names[node.output] = name
    statements.say("if self.sharding_group is not None:")
    statements.say(f"    {name} = {OVER_PROCESSES[node.op].format(name)}")
    statements.measure(node.output, name)


#: Items and parts of the list of caches are written where they are read.
UNWRITTEN = ("cache[]", "caches[:]", "cache.last")
#: Nodes that are statements of their own.
STATEMENTS: dict[str, Callable[[Statements, Node], None]] = {
    "update_and_fetch": _update,
    "cache.advance": _advance,
    **dict.fromkeys(OVER_PROCESSES, _add_up),
}
