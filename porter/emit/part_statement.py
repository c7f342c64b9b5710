"""`x[2:] = 1.0`: a write into a part of an array, the one node besides those of caches that is a statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.emit.syntax import ATOM, Text, call, subscript
from porter.ir import Node

if TYPE_CHECKING:
    from porter.emit.statements import Statements


def write_part(statements: Statements, node: Node) -> Text:
    """Writes the statement and gives the array's name; what something else reads, too, is copied first."""
    whole = node.args[0]
    nodes = statements.nodes
    key = nodes.key(node)
    number = nodes.part([(i, other.args[1]) for i, other in nodes.likes(node)], node, "")
    text = statements.read(whole)
    if statements.left.get(whole, 0) or whole in statements.template.inputs:
        text = call("mx.array", [text])
    name = text.code if text.code.isidentifier() else statements.assign(whole, text)
    statements.flush(name, node.output)  # what was read before is worked out before
    statements.say(f"{subscript(Text(name), key).code} = {number.code}")
    statements.names[node.output] = name
    return Text(name, ATOM, 0, {name})
