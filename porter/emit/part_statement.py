"""`x[2:] = 1.0`: a write into a part of an array, the one node besides those of caches that is a statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.emit.syntax import ATOM, Text, call, subscript
from porter.ir import Node, Value

if TYPE_CHECKING:
    from porter.emit.statements import Statements


def write_part(statements: Statements, node: Node) -> Text:
    """Writes the statement and gives the array's name; what something else reads, too, is copied first."""
    whole = node.args[0]
    nodes = statements.nodes
    key = nodes.key(node)
    if isinstance(node.args[1], Value):
        part = statements.read(node.args[1])
    else:
        part = nodes.part([(i, other.args[1]) for i, other in nodes.likes(node)], node, "")
    text = statements.read(whole)
    held = whole.is_parameter or whole in statements.template.inputs
    if statements.left.get(whole, 0) or held or text.code in statements.busy():
        name = statements.free_name(node.output, part.names)  # the part is read after the copy
        statements.assign(node.output, call("mx.array", [text]), name)
    elif text.code.isidentifier():
        name = text.code
    else:
        name = statements.assign(whole, text, statements.free_name(whole, part.names))
    statements.flush(name, node.output)  # what was read before is worked out before
    statements.say(f"{subscript(Text(name), key).code} = {part.code}")
    statements.names[node.output] = name
    return Text(name, ATOM, 0, {name})
