"""The statements of a forward so far, and under which name, or as which expression held back, each value stands."""

from __future__ import annotations

from typing import Any

from porter.emit.arguments import Arguments
from porter.emit.list_caches import ListCaches
from porter.emit.names import identifier, variable
from porter.emit.node_text import NodeText
from porter.emit.syntax import ATOM, Text
from porter.ir import Node, Value
from porter.passes.factor.blocks import Loop, reads
from porter.passes.factor.branches import Branches
from porter.passes.factor.classes import BlockClass
from porter.passes.factor.find_steps import find_part

#: An expression longer or deeper than this gets a name.
_LONG, _DEEP = 74, 4


class Statements:
    """`names` has the values that are locals, `pending` the expressions that their one reader will take in."""

    def __init__(
        self,
        cls: BlockClass,
        arguments: Arguments,
        places: Any,
        branches: Branches,
        inputs: list[str] | None = None,
    ):
        self.cls = cls
        self.template = cls.template
        self.places = places  # .child(item), .layer(node), .parameter(value)
        self.lines: list[str] = []
        self.indent = 0
        self.names: dict[Value, str] = {}
        self.pending: dict[Value, Text] = {}
        self.reserved: set[str] = set()  # what the body of a loop must leave alone
        self.targets: dict[Value, str] = {}  # the names under which the next turn of a loop reads
        self.collected: list[tuple[list[Any], str]] = []  # what loops have put into lists
        self.spelled = False  # slices and fills have one form with any number, for turns of a loop
        self.left = self._count_reads()
        self.functions = {
            item.op.removeprefix("fn.")
            for item in self.template.items
            if isinstance(item, Node) and item.op.startswith("fn.")
        }
        self.lists: ListCaches = places.lists()
        self.functions |= set(self.lists.names)
        self.names_of_inputs = self._name_inputs(inputs)
        self.hidden = branches.hidden()
        self.nodes = NodeText(cls, arguments, places, self)
        self.unpacked = {
            i.args[0] for i in self.template.items if isinstance(i, Node) and i.op == "unpack"
        }
        self.fetched = {  # written where it is known that they are needed
            value
            for i in self.template.items
            if isinstance(i, Node) and i.op == "update_and_fetch" and i.attrs.get("once")
            for value in i.args[:2]
        }
        self.branch = {value for item in branches.inside for value in item.outputs}

    def _count_reads(self) -> dict[Value, int]:
        """How often each array is read, a parameter too where the caller gives it."""
        left: dict[Value, int] = {}
        given = set(self.template.inputs)
        for item in self.template.items:
            for value in (
                list(item.inputs())
                if isinstance(item, Node)
                else [v for v in item.inputs if v is not None]
            ):
                if not value.is_parameter or value in given:
                    left[value] = left.get(value, 0) + 1
        for value in self.template.outputs:
            left[value] = left.get(value, 0) + 1
        return left

    def _name_inputs(self, given: list[str] | None) -> list[str]:
        names: list[str] = []
        spare = ("x", "y", "z", "u", "v", "w")
        for position, value in enumerate(self.template.inputs):
            if given is not None:
                name = identifier(given[position])
            elif len(self.template.inputs) == 1 or (
                position == 0
                and value.dtype.startswith("float")
                and not self.places.is_named(value)
            ):
                name = "x"
            elif value.dtype == "mask" and self._masks() > 1:
                name = identifier(value.name or "mask")
            elif value.dtype == "bool" or (value.name and "mask" in value.name):
                hint = value.name if value.name in ("memory_mask", "shown") else "mask"
                name = variable(hint, self.functions.union(names), spare)
            else:
                name = variable(
                    self.places.local_name(value) or (value.path or "").rpartition(".")[2] or None,
                    self.functions.union(names),
                    spare,
                )
            names.append(name)
            self.names[value] = name
        return names

    def _masks(self) -> int:
        return sum(value.dtype == "mask" for value in self.template.inputs)

    # --- writing

    def say(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)

    def assign(self, value: Value, text: Text, name: str | None = None) -> str:
        """`name = text`; expressions held back that read a local of that name are written first."""
        name = name or self.free_name(value, set())
        self.flush(name, value)
        if text.code != name:
            self.say(f"{name} = {text.code}")
        self.names[value] = name
        self.measure(value, name)
        return name

    def keep(self, value: Value, text: Text) -> None:
        """Holds the expression back for the one place that reads it, or gives it a name."""
        last = value in self.template.outputs and len(self.template.outputs) == 1
        readable = (len(text.code) <= _LONG and text.depth <= _DEEP) or value in self.fetched
        named = self._is_named(value) and value not in self.branch
        free = not (named or self.nodes.is_measured(value) or value in self.targets)
        if self.left.get(value, 0) == 1 and (readable or last or value in self.unpacked) and free:
            self.pending[value] = text
        else:
            self.assign(value, text)

    def _is_named(self, value: Value) -> bool:
        """A value that a loop or an optional part reads needs a name."""
        for item in self.template.items:
            if isinstance(item, Loop) and value in item.inputs:
                return True
            if self.cls.is_optional(item) and value in reads(item):
                return True
        return False

    def measure(self, value: Value, name: str) -> None:
        for line in self.nodes.shape_lines(value, name):
            self.say(line)

    def flush(self, name: str, target: Value) -> None:
        """Writes the expressions held back that read `name`, which is about to change."""
        for value, text in list(self.pending.items()):
            if name in text.names and value is not target:
                del self.pending[value]
                fresh = variable(
                    value.name, self.busy() | {name}, ("h", "y", "r", "z", "u", "w", "s", "t")
                )
                self.assign(value, text, fresh)

    # --- reading

    def read(self, value: Value) -> Text:
        """The expression for a value at one place that reads it."""
        if value.is_parameter and value not in self.names:
            return Text(self.places.parameter(value))
        if value.node is not None and value.node.op == "cache[]" and value not in self.names:
            return Text(f"{self.read(value.node.args[0]).code}[{value.node.attrs['index']}]")
        if value.node is not None and value.node.op == "cache.last":
            name = self.names[value.node.args[0]]
            return Text(f"{name}[-1] if {name} else None", 1, 1, {name})
        if value.node is not None and value.node.op == "caches[:]" and value not in self.names:
            return self.lists.text(value.node, self.names[value.node.args[0]])
        self.left[value] = self.left.get(value, 1) - 1
        if value in self.pending:
            return self.pending.pop(value)
        return Text(self.names[value], ATOM, 0, {self.names[value]})

    def read_all(self, values: list[Value]) -> list[Text]:
        """The arrays one by one, or `*outputs` for those that a loop has put into a list."""
        for column, name in self.collected:
            found = find_part(values, column)
            if found is None:
                continue
            start, backward = found
            for value in column:
                self.left[value] = self.left.get(value, 1) - 1
            text = Text(f"*{name}[::-1]" if backward else f"*{name}", names={name})
            rest = values[start + len(column) :]
            return [*self.read_all(values[:start]), text, *self.read_all(rest)]
        return [self.read(value) for value in values]

    def name(self, value: Value) -> str:
        """The value under a name, given now if it had none."""
        if value in self.pending:
            return self.assign(value, self.pending.pop(value))
        if value not in self.names:  # an item of the list of caches
            self.names[value] = self.read(value).code
        return self.names[value]

    def busy(self) -> set[str]:
        """Names that are not free: what is still read, sizes, functions, and what a loop keeps for itself."""
        return self._live() | self.nodes.dim_names() | self.functions | self.reserved

    def _live(self) -> set[str]:
        """Names that are still read: by what comes later, or by an expression held back."""
        live = {name for value, name in self.names.items() if self.left.get(value, 0) > 0}
        for text in self.pending.values():
            live |= text.names
        return live | {n for col, n in self.collected if any(self.left.get(v, 0) > 0 for v in col)}

    def free_name(self, value: Value, more: set[str]) -> str:
        spare: tuple[str, ...] = ("x", "y", "h", "r", "z", "u", "w", "s", "t")
        name = self.places.local_name(value)
        hint = name if name not in ("_", None) else None
        target = self.targets.get(value)
        if target is not None and target not in self._live() | more:
            return target
        if value.dtype == "bool" and hint is None:
            spare = ("mask", "keep", *spare)
        return variable(hint, self.busy() | more, spare)
