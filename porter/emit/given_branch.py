"""`if pixel_values is not None`: what is done only where an input is given that a call may leave out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.emit.loop_statement import write_loop
from porter.ir import Node, Value
from porter.passes.factor.blocks import Item, Loop, reads
from porter.passes.factor.given import Given, without

if TYPE_CHECKING:
    from porter.emit.body import Body


class GivenBranches:
    """Holds items back until the array that they are for is made, or something outside reads what they make."""

    def __init__(self, body: Body, given: Given):
        self.body = body
        self.inside, self.leaving = given.inside, given.leaving
        self.waiting: list[Item] = []
        entering = [v for v in body.template.inputs if v in body.places.model.absent]
        self.absent = set(entering) if given.decides is not None else set()
        self.unmeasured = list(self.absent)
        self.condition = ""
        if given.decides is not None:
            left = body.statements.left
            left[given.decides] = left.get(given.decides, 0) + 1  # no other array takes its name
            self.condition = f"{body.statements.names[given.decides]} is not None"

    def write_waiting(self, values: list[Value]) -> None:
        """The branch of what waits, if some of it makes one of the values."""
        if any(value in values for item in self.waiting for value in item.outputs):
            self._branch(None)

    def write(self, node: Node) -> None:
        """The branch that gives the node's output; elsewhere it is what it is without the input."""
        self._branch(node)

    def _branch(self, node: Node | None) -> None:
        statements = self.body.statements
        items, self.waiting = self.waiting, []
        base, still_read = "", False
        if node is not None:
            words = without(node)
            base = statements.name(words)
            inner = sum(list(reads(item)).count(words) for item in (node, *items))
            still_read = statements.left.get(words, 0) > inner
            if not still_read:
                statements.flush(base, node.output)
        mark = len(statements.lines)
        statements.indent += 1
        for value in self.unmeasured:
            statements.measure(value, statements.names[value])
        self.unmeasured = []
        for item in items:
            if isinstance(item, Loop):
                write_loop(statements, item)
            else:
                self.body.write_plain(item)
        leaving = [v for item in items for v in item.outputs if v in self.leaving]
        none = [statements.name(value) for value in leaving]
        last: list[str] = []
        if node is not None:
            text = statements.nodes.text(node)
            name = statements.free_name(node.output, {base, *none}) if still_read else base
            last = [f"{name} = {text.code}"]
        statements.indent -= 1
        inside, outside = "    " * (statements.indent + 1), "    " * statements.indent
        statements.lines.insert(mark, f"{outside}if {self.condition}:")
        statements.lines += [f"{inside}{line}" for line in last]
        others = [f"{' = '.join(none)} = None"] if none else []
        others += [f"{name} = {base}"] if still_read else []
        if others:
            statements.lines += [f"{outside}else:", *(f"{inside}{line}" for line in others)]
        if node is not None:
            statements.names[node.output] = name
            statements.measure(node.output, name)
