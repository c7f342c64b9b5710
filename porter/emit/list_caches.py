"""The caches of lists of layers below the module that hands them out, each gone through once or several times."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.emit.places import placed, steps_of
from porter.emit.syntax import ATOM, Text
from porter.ir import Node
from porter.passes.factor.blocks import Block, Item, Loop

if TYPE_CHECKING:
    from porter.emit.attributes import Attributes
    from porter.emit.places import Housing

#: What the lengths of the lists are called.
_LENGTHS = "nmk"


class ListCaches:
    """`turns[path]` are the slices of a list's caches, one for each time that it is gone through; lists follow each other."""

    def __init__(self, template: Block, attributes: Attributes, housing: Housing):
        slices = [i for i in template.items if isinstance(i, Node) and i.op == "caches[:]"]
        slices.sort(key=lambda node: node.attrs["start"])
        self.turns: dict[str, list[Node]] = {}
        for node in slices:
            reader = next(i for i in template.items if isinstance(i, Block) and node.output in i.inputs)  # fmt: skip
            ((_, relative),) = placed(template, reader, attributes)
            path = f"self{steps_of(relative)}.{_list_name(reader, housing)}"
            self.turns.setdefault(path, []).append(node)

    @property
    def names(self) -> list[str]:
        """The locals that hold the lengths of the lists."""
        return list(_LENGTHS[: len(self.turns)])

    def lines(self) -> list[str]:
        """The statement that reads the lengths."""
        if not self.turns:
            return []
        lengths = ", ".join(f"len({path})" for path in self.turns)
        return [f"{', '.join(self.names)} = {lengths}"]

    def count(self) -> str:
        """The number of all caches."""
        return _sum([(len(nodes), n) for nodes, n in zip(self.turns.values(), self.names, strict=True)])  # fmt: skip

    def text(self, node: Node, caches: str) -> Text:
        """`cache[n : 2 * n]`."""
        before: list[tuple[int, str]] = []
        for nodes, name in zip(self.turns.values(), self.names, strict=True):
            if node in nodes:
                turn = nodes.index(node)
                start = _sum([*before, (turn, name)])
                stop = _sum([*before, (turn + 1, name)])
                stop = "" if stop == self.count() else stop
                return Text(f"{caches}[{start}:{stop}]", ATOM, 1, {caches, *self.names})
            before.append((len(nodes), name))
        raise AssertionError(node)


def _sum(parts: list[tuple[int, str]]) -> str:
    return " + ".join(name if k == 1 else f"{k} * {name}" for k, name in parts if k)


def _list_name(block: Block, housing: Housing) -> str:
    """The attribute in which a module keeps the layers that have a cache each."""
    item: Item
    for item in block.items:
        for child, relative in placed(block, item, housing.of(block)):
            given = any(v is not None and v.dtype == "cache" for v in child.inputs)
            if given or (isinstance(item, Loop) and item.caches):
                return relative.rpartition(".")[0]
    raise AssertionError(block)
