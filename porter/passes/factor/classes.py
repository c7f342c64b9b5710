"""Blocks that compute the same share a class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from porter.ir import Node, Value
from porter.passes.factor.blocks import Block, Item, Loop, reads
from porter.passes.factor.branches import Branches
from porter.passes.factor.roll import roll_loops, roll_single_turns
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

    def __repr__(self) -> str:
        return f"BlockClass({self.name}, {len(self.instances)} instances)"

    def of(self, item: Any) -> list[Any]:
        """An item of the template in each instance."""
        return [mapping.get(item) for mapping in self.items]

    def is_optional(self, item: Item) -> bool:
        return any(found is None for found in self.of(item))

    def lacking(self, value: Value) -> frozenset[int]:
        """The instances that do without a value of the template."""
        return frozenset(i for i, mapping in enumerate(self.values) if value not in mapping)


def factor_classes(root: Block) -> dict[Block, BlockClass]:
    """Rolls loops and assigns a class to every block below and including the root, children first."""
    heights = _levels(root)
    assigned: dict[Block, BlockClass] = {}
    known: dict[str, list[BlockClass]] = {}

    def same(a: Block, b: Block) -> bool:
        if a.is_sequential or b.is_sequential:
            return a.is_sequential and b.is_sequential and assigned[a] is assigned[b]
        return assigned[a] is assigned[b]

    for height in range(1, max(heights.values()) + 1):
        level = [block for block, h in heights.items() if h == height]
        even = _even_lists(level, assigned)
        for block in level:
            _splice_sequentials(block, assigned, even)
        for block in level:
            roll_loops(block, same)
        roll_single_turns(level, same)
        for block in sorted(level, key=lambda b: (-len(b.items), -len(b.inputs))):
            for candidate in known.setdefault(block.cls, []):
                if _joins(candidate, block, same):
                    assigned[block] = candidate
                    break
            else:
                fresh = BlockClass(block.cls.rpartition(".")[2], block, [block])
                fresh.items = [{item: item for item in block.items}]
                fresh.values = [{value: value for item in block.items for value in item.outputs}]
                fresh.values[0].update({value: value for value in block.inputs})
                fresh.values[0].update(
                    {v: v for item in block.items for v in reads(item) if v.is_parameter}
                )
                known[block.cls].append(fresh)
                assigned[block] = fresh
    return assigned


def _joins(candidate: BlockClass, block: Block, same: Callable[[Block, Block], bool]) -> bool:
    """Makes the block an instance of the class, if one forward can be written for it and the others."""
    inputs = block.inputs
    unifier = Unifier(candidate.template, block, same)
    if not unifier.run():
        return False
    candidate.items.append(unifier.items)
    candidate.values.append(unifier.values)
    if None in unifier.items.values() and not Branches(candidate).can_be_written():
        candidate.items.pop()
        candidate.values.pop()
        block.inputs = inputs
        return False
    unifier.write_out()
    candidate.instances.append(block)
    return True


def _levels(root: Block) -> dict[Block, int]:
    """The order of factoring: children before parents, and all blocks of one source class at once.

    A class that occurs inside itself can't be had at once; its blocks then go by their own heights.
    """
    blocks = list(root.walk())
    heights: dict[Block, int] = {}
    for block in blocks:
        heights[block] = 1 + max(
            (heights[item] for item in block.items if isinstance(item, Block)), default=0
        )
    levels = dict(heights)
    for _ in range(64):
        before = dict(levels)
        highest: dict[str, int] = {}
        for block in blocks:
            below = max(
                (levels[item] for item in block.items if isinstance(item, Block)), default=0
            )
            levels[block] = max(levels[block], 1 + below)
            highest[block.cls] = max(highest.get(block.cls, 0), levels[block])
        for block in blocks:
            if not block.is_sequential:
                levels[block] = highest[block.cls]
        if levels == before:
            return levels
    return heights


def _even_lists(level: list[Block], assigned: dict[Block, BlockClass]) -> set[tuple[str, str]]:
    """(class, attribute) of Sequentials that are lists by their nature: one of them has several even blocks."""
    return {
        (block.cls, block.relative(item.path))
        for block in level
        for item in block.items
        if isinstance(item, Block) and item.is_sequential and _is_even(item, assigned)
    }


def _splice_sequentials(
    block: Block, assigned: dict[Block, BlockClass], even: set[tuple[str, str]]
) -> None:
    """A Sequential of blocks that are alike, or that take turns in two forms, becomes a list with a loop."""
    if block.is_sequential:
        return
    items: list[Item] = []
    for item in block.items:
        if (
            isinstance(item, Block)
            and item.is_sequential
            and _is_even(item, assigned, (block.cls, block.relative(item.path)) in even)
        ):
            items += item.items
        else:
            items.append(item)
    block.items = items


def _is_even(block: Block, assigned: dict[Block, BlockClass], short: bool = False) -> bool:
    blocks = [item for item in block.items if isinstance(item, Block)]
    if len(blocks) < (1 if short else 2) or len(blocks) != len(block.items):
        return False
    if len({id(assigned[b]) for b in blocks}) > 1:
        return False
    prints = [fingerprint(b, assigned) for b in blocks]
    if any(b.is_sequential for b in blocks):
        return len(set(prints)) == 1
    return all(p == prints[k % 2] for k, p in enumerate(prints)) and (
        short or len(blocks) > 2 or len(set(prints)) == 1
    )


def fingerprint(block: Block, classes: dict[Block, BlockClass]) -> str:
    """Everything that may differ among instances of a class, as text."""

    def part(item: Any) -> Any:
        if isinstance(item, Value):
            return "v"
        if isinstance(item, dict):
            return {key: part(value) for key, value in item.items()}
        if isinstance(item, (list, tuple)):
            return [part(entry) for entry in item]
        if isinstance(item, slice):
            return ["slice", part(item.start), part(item.stop), part(item.step)]
        return item if not hasattr(item, "free_symbols") else "s"

    texts = []
    for item in block.items:
        if isinstance(item, Node):
            shapes = [v.shape for v in item.inputs() if v.is_parameter]
            texts.append(f"{item.op}{part(item.args)}{part(item.kwargs)}{part(item.attrs)}{shapes}")
        else:
            texts += [
                f"{id(classes[b])}{fingerprint(b, classes)}"
                for b in (item.blocks if isinstance(item, Loop) else [item])
            ]
    return f"({';'.join(texts)})"
