"""Blocks that compute the same share a class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from porter.ir import Value
from porter.passes.factor.roll import roll_loops
from porter.passes.factor.tree import Block, Item
from porter.passes.factor.unify import Unifier


@dataclass(slots=True, eq=False)
class BlockClass:
    """One emitted class: the template block and every block that is an instance of it.

    `items[i]` and `values[i]` say what the template's items and values are in instance i (None: the instance lacks it).
    """

    name: str
    template: Block
    instances: list[Block] = field(default_factory=list)
    items: list[dict[Item, Item | None]] = field(default_factory=list)
    values: list[dict[Value, Value]] = field(default_factory=list)

    def of(self, item: Any) -> list[Any]:
        """An item of the template in each instance."""
        return [mapping.get(item) for mapping in self.items]

    def is_optional(self, item: Item) -> bool:
        return any(found is None for found in self.of(item))


def factor_classes(root: Block) -> dict[Block, BlockClass]:
    """Rolls loops and assigns a class to every block below and including the root, children first."""
    heights: dict[Block, int] = {}
    for block in root.walk():
        heights[block] = 1 + max((heights[item] for item in block.items if isinstance(item, Block)), default=0)
    assigned: dict[Block, BlockClass] = {}
    known: dict[str, list[BlockClass]] = {}

    def same(a: Block, b: Block) -> bool:
        if a.is_sequential or b.is_sequential:
            return a.is_sequential and b.is_sequential and assigned[a] is assigned[b]
        return assigned[a] is assigned[b]

    for height in range(1, max(heights.values()) + 1):
        level = [block for block, h in heights.items() if h == height]
        for block in level:
            roll_loops(block, same)
        for block in sorted(level, key=lambda b: -len(b.items)):
            for candidate in known.setdefault(block.cls, []):
                unifier = Unifier(candidate.template, block, same)
                if unifier.run():
                    candidate.instances.append(block)
                    candidate.items.append(unifier.items)
                    candidate.values.append(unifier.values)
                    assigned[block] = candidate
                    break
            else:
                fresh = BlockClass(block.cls.rpartition(".")[2], block, [block])
                fresh.items = [{item: item for item in block.items}]
                fresh.values = [{value: value for item in block.items for value in item.outputs}]
                fresh.values[0].update({value: value for value in block.inputs})
                known[block.cls].append(fresh)
                assigned[block] = fresh
    return assigned
