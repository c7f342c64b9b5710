"""The forward of a class: statements over named locals, everything used once inlined while it stays readable."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from porter.emit.arguments import Arguments
from porter.emit.cache_statements import STATEMENTS, UNWRITTEN
from porter.emit.given_branch import GivenBranches
from porter.emit.literals import Vector, literal
from porter.emit.loop_statement import write_loop
from porter.emit.statements import Statements
from porter.emit.steps_statement import write_steps
from porter.emit.syntax import Text, call, sequence
from porter.ir import Node
from porter.passes.factor.blocks import Block, Item, Loop, reads
from porter.passes.factor.branches import Branches
from porter.passes.factor.classes import BlockClass
from porter.passes.factor.find_steps import Steps, find_steps
from porter.passes.factor.gather_steps import gather_steps
from porter.passes.factor.given import Given, is_given

#: A line that takes in a comprehension is not longer.
_ROOM = 92
#: A line that names a size and does nothing else.
_SIZE_LINE = r" *([A-Z]+) = (?:\w+\.shape\[\d+\]|int\(\w+\*\*0\.5\))"


class Body:
    """Writes `__call__` of one class."""

    def __init__(
        self, cls: BlockClass, arguments: Arguments, places: Any, inputs: list[str] | None = None
    ):
        self.cls = cls
        self.template = cls.template
        self.places = places
        self.branches = Branches(cls)
        self.statements = Statements(cls, arguments, places, self.branches, inputs)
        self.given = GivenBranches(self, Given.of(self.template, places.model.absent))
        self.items, self.steps = self._loops()

    def write(self) -> list[str]:
        """The statements of the forward."""
        written: set[Item] = set()
        for item in self.items:
            if item in self.steps and write_steps(self, self.steps[item]):
                written |= self.steps[item].items()
            elif item not in self.branches.inside and item not in written:
                self.write_item(item)
        self.given.write_waiting(self.template.outputs)
        self._return()
        inputs = zip(self.template.inputs, self.statements.names_of_inputs, strict=True)
        shapes = [
            line
            for value, name in inputs
            if value not in self.given.absent
            for line in self.statements.nodes.shape_lines(value, name)
        ]
        lines = take_in_lists(join_branches(self.statements.lines))
        return read_sizes(shapes + self._caches() + lines)

    def _caches(self) -> list[str]:
        """Where a forward starts without a cache, each layer gets None, or a None for each part of its cache."""
        items = [
            i
            for i in self.template.items
            if isinstance(i, Node)
            and i.op in ("cache[]", "caches[:]")
            and i.args[0].dtype == "caches"
        ]
        if not items:
            return []
        caches = items[0].args[0]
        name = self.statements.names[caches]
        return [
            *self.statements.lists.lines(),
            f"{name} = {name} or {self.places.no_caches(caches)}",
        ]

    def _loops(self) -> tuple[list[Item], dict[Item, Steps]]:
        """The items in the order of writing, and the loops by their first items: of two over the same, that of more turns."""
        fixed = self._fixed()
        writes = {i for i in self.template.items if isinstance(i, Node) and i.op == "[]="}
        gathered = gather_steps(self.template, fixed | writes)[1].values()
        steps = {
            first: loop
            for first, loop in find_steps(self.template, fixed).items()
            if not any(o.items() & loop.items() and o.count > loop.count for o in gathered)
        }
        taken = {item for loop in steps.values() for item in loop.items()}
        items, more = gather_steps(self.template, fixed | writes | taken)
        return items, steps | more

    def _fixed(self) -> set[Item]:
        """The items that are no step of a loop: what some instances lack, what keeps a state, and loops themselves."""
        return {
            item
            for item in self.template.items
            if item in self.branches.inside
            or item in self.given.inside
            or self.cls.is_optional(item)
            or not isinstance(item, (Node, Block))
            or is_given(item)
            or (isinstance(item, Node) and (item.op in UNWRITTEN or item.op in STATEMENTS))
        }

    def write_item(self, item: Item) -> None:
        """The statements of one item."""
        if item in self.given.inside:
            self.given.waiting.append(item)
            return
        if not is_given(item):
            self.given.write_waiting(reads(item))
        if isinstance(item, Node) and item.op in UNWRITTEN:
            pass
        elif is_given(item):
            self.given.write(item)  # type: ignore[arg-type]
        elif isinstance(item, Node) and item.op == "size":
            self.statements.names[item.output] = self.item_text(item).code
        elif self.cls.is_optional(item):
            self._optional(item)
        elif isinstance(item, Loop):
            write_loop(self.statements, item)
        elif isinstance(item, Node) and item.op in STATEMENTS:
            STATEMENTS[item.op](self.statements, item)
        else:
            self.write_plain(item)

    def write_plain(self, item: Node | Block) -> None:
        """The statement of a node or a call that is done in any case."""
        text = self.item_text(item)
        if isinstance(item, Node) and item.op == "[]=":
            self.statements.measure(item.output, text.code)
        elif isinstance(item, Node) and item.attrs.get("early"):
            self.statements.assign(item.output, text)
        elif len(item.outputs) == 1:
            self.statements.keep(item.outputs[0], text)
        else:
            self._assign_many(item, text)

    def _assign_many(self, item: Node | Block, text: Text) -> None:
        names: list[str] = []
        for value in item.outputs:
            if not self.statements.left.get(value, 0):
                names.append("_")
                continue
            name = self.statements.free_name(value, set(names))
            names.append(name)
        self.statements.say(f"{', '.join(names)} = {text.code}")
        for value, name in zip(item.outputs, names, strict=True):
            self.statements.names[value] = name
            self.statements.measure(value, name)

    def item_text(self, item: Node | Block) -> Text:
        if isinstance(item, Node):
            return self.statements.nodes.text(item)
        return call(self.places.child(item), self._arguments(item))

    def _arguments(self, block: Block) -> list[Text]:
        """What a call is given; a parameter that some instances lack may be None."""
        texts = []
        for value in block.inputs:
            if value is None:
                texts.append(Text("None"))
            elif (
                value.is_parameter
                and value not in self.statements.names
                and self.cls.lacking(value)
            ):
                texts.append(Text(self.places.optional_parameter(value)))
            else:
                texts.append(self.statements.read(value))
        while texts and texts[-1].code == "None":
            texts.pop()
        return texts

    def _optional(self, item: Item) -> None:
        statements = self.statements
        inner = self.branches.dependents.get(item, [])
        fallback = self.branches.fallback(item, [item, *inner])
        if fallback is None or isinstance(item, Loop):
            if not isinstance(item, Loop):
                self.write_plain(item)
            return
        value = item.outputs[0]
        base = (
            statements.name(fallback)
            if not fallback.is_parameter
            else self.places.parameter(fallback)
        )
        condition = self.places.condition(item, self._flag(item))
        readers_inside = sum(list(reads(i)).count(fallback) for i in (item, *inner))
        still_read = statements.left.get(fallback, 0) > readers_inside or fallback.is_parameter
        if not still_read:
            statements.flush(base, value)
        mark = len(statements.lines)
        statements.indent += 1
        for dependent in inner:
            self.write_plain(dependent)  # type: ignore[arg-type]
        text = self.item_text(item)  # type: ignore[arg-type]
        statements.indent -= 1
        if still_read and len(statements.lines) == mark:
            code = f"{text.code} if {condition} else {base}"
            statements.assign(value, Text(code, 1, text.depth + 1, text.names | {base}))
            return
        name = statements.free_name(value, {base}) if still_read else base
        inside, outside = "    " * (statements.indent + 1), "    " * statements.indent
        statements.lines.insert(mark, f"{outside}if {condition}:")
        statements.lines.append(f"{inside}{name} = {text.code}")
        if still_read:
            statements.lines += [f"{outside}else:", f"{inside}{name} = {base}"]
        statements.names[value] = name
        statements.measure(value, name)

    def _flag(self, item: Item) -> Vector:
        return {i: found is not None for i, found in enumerate(self.cls.of(item))}

    def _return(self) -> None:
        outputs = self.template.outputs
        kind = self.places.output_kind(self.cls)
        if isinstance(kind, list):
            texts = [self.statements.read(value) for value in outputs]
            pairs = ", ".join(
                f"{literal(name)}: {text.code}" for name, text in zip(kind, texts, strict=True)
            )
            self.statements.say(f"return {{{pairs}}}")
        elif len(outputs) == 1:
            self.statements.say(f"return {self.statements.read(outputs[0]).code}")
        else:
            texts = self.statements.read_all(outputs)
            code = sequence(texts, "()").code
            whole = len(texts) == 1  # a list that a loop has made
            self.statements.say(f"return {f'tuple({code[2:-2]})' if whole else code[1:-1]}")


def read_sizes(lines: list[str]) -> list[str]:
    """Without `N = x.shape[1]`, or `H = int(N**0.5)`, where no line reads it: a reshape that was planned with it is gone."""
    count = Counter(word for line in lines for word in re.findall(r"\w+", line))
    sizes = [re.fullmatch(_SIZE_LINE, line) for line in lines]
    found = [
        line for line, size in zip(lines, sizes, strict=True) if not size or count[size[1]] > 1
    ]
    return found if len(found) == len(lines) else read_sizes(found)


def take_in_lists(lines: list[str]) -> list[str]:
    """Without names for comprehensions and sums that the next line alone reads, where it has room for them."""
    result: list[str] = []
    for line in reversed(lines):
        made = re.fullmatch(r"( *)(\w+) = (\[.* for .* in .*\]|sum\(.* for .* in .*\))", line)
        if made is not None and result:
            word = re.compile(rf"(?<![\w.]){made[2]}(?![\w=])")
            following = result[-1]
            reads = sum(len(word.findall(other)) for other in result)
            is_alone = reads == len(word.findall(following)) == 1 and " for " not in following
            whole = word.sub(lambda _, text=made[3]: text, following)  # type: ignore[misc]
            if is_alone and following.startswith(made[1]) and len(whole) <= _ROOM:
                result[-1] = whole
                continue
        result.append(line)
    return result[::-1]


def join_branches(lines: list[str]) -> list[str]:
    """Branches on one condition that follow each other become one."""
    result: list[str] = []
    open_branch = ""
    for line in lines:
        if line.startswith("if "):
            if line != open_branch:
                result.append(line)
            open_branch = line
            continue
        if not line.startswith(" "):
            open_branch = ""
        result.append(line)
    return result
