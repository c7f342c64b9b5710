"""Calls of source modules, and loops over them: what the tree of a program is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from porter.ir import Node, Value

_SEQUENTIAL = "torch.nn.modules.container.Sequential"


@dataclass(slots=True, eq=False)
class Block:
    """One call of a source module: its nodes and the calls of its children, in execution order.

    `inputs` are the arrays it reads from outside its module, `outputs` those read outside it.
    """

    path: str
    cls: str
    call: int = 0
    items: list[Item] = field(default_factory=list)
    #: None: an input of the class that this call does without
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Block({self.path!r}, {self.cls}, {len(self.items)} items)"

    @property
    def is_sequential(self) -> bool:
        return self.cls == _SEQUENTIAL

    def relative(self, path: str) -> str:
        """A path below this block, seen from it."""
        return path.removeprefix(f"{self.path}.") if self.path else path

    def owns(self, path: str) -> bool:
        return not self.path or path == self.path or path.startswith(f"{self.path}.")

    def walk(self) -> Iterator[Block]:
        """This block and all below it, children first."""
        for item in self.items:
            if isinstance(item, Block):
                yield from item.walk()
            elif isinstance(item, Loop):
                for block in item.blocks:
                    yield from block.walk()
        yield self


@dataclass(slots=True, eq=False)
class Loop:
    """`for block in self.blocks: x = block(x, mask)`: turns that do the same to what the turn before gave.

    A turn is a block and the nodes that follow it up to the next. `slots` are the arrays that the first turn reads from
    outside; `carried[i]` is the place, among the arrays that a turn writes, of what the next turn reads in slot i (None: the
    same array in every turn). `caches` are the slots in which each turn has the next item of a decoder's caches, `masks`
    those in which turns differ by their mask.
    """

    turns: list[list[Item]]
    slots: list[list[Value]]
    carried: list[int | None]
    caches: set[int] = field(default_factory=set)
    masks: set[int] = field(default_factory=set)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)

    @property
    def blocks(self) -> list[Block]:
        return [turn[0] for turn in self.turns]  # type: ignore[misc]


Item = Node | Block | Loop


def reads(item: Item) -> list[Value]:
    """The arrays an item reads that no parameter of its own is."""
    return list(dict.fromkeys(all_reads(item)))


def all_reads(item: Item) -> list[Value]:
    """What an item reads, as often as it does."""
    values = item.inputs() if isinstance(item, Node) else item.inputs
    return [value for value in values if value is not None]
