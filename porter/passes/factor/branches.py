"""Which items of a forward are written inside the branch of an optional one, and what stands in its place elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.ir import Node, Value
from porter.passes.factor.blocks import Item, Loop, reads

if TYPE_CHECKING:
    from porter.passes.factor.classes import BlockClass


class Branches:
    """`dependents` has, for each optional item, what only it needs, in order; `inside` is all of these."""

    def __init__(self, cls: BlockClass):
        self.cls = cls
        self.template = cls.template
        self.dependents = self._dependents()
        self.inside = {item for items in self.dependents.values() for item in items}

    def _dependents(self) -> dict[Item, list[Item]]:
        """Items that only an optional item needs, lacking where it is: they are written inside its branch."""
        readers: dict[Value, list[Item]] = {}
        for item in self.template.items:
            for value in reads(item):
                readers.setdefault(value, []).append(item)
        result: dict[Item, list[Item]] = {}
        inside: set[Item] = set()
        backwards = list(reversed(self.template.items))
        for place, head in enumerate(backwards):
            if head in inside or isinstance(head, Loop) or not self.cls.is_optional(head):
                continue
            branch: list[Item] = [head]
            absent = self._absence(head)
            for item in backwards[place + 1 :]:
                if self._absence(item) != absent or isinstance(item, Loop):
                    continue
                users = [user for value in item.outputs for user in readers.get(value, [])]
                needed_outside = any(value in self.template.outputs for value in item.outputs)
                if users and not needed_outside and set(users) <= set(branch):
                    branch.append(item)
            if self.fallback(head, branch) is not None:
                result[head] = branch[:0:-1]
                inside |= set(branch[1:])
        return result

    def hidden(self) -> set[Value]:
        """What is made inside the branches that not all instances take: nothing behind these may read it."""
        return {
            value for items in self.dependents.values() for item in items for value in item.outputs
        }

    def _absence(self, item: Item) -> frozenset[int]:
        return frozenset(i for i, found in enumerate(self.cls.of(item)) if found is None)

    def fallback(self, head: Item, branch: list[Item]) -> Value | None:
        """What takes the place of an optional item's output in every instance that lacks it and the rest of its branch."""
        if len(head.outputs) != 1:
            return None
        absent = [self.cls.values[i] for i in self._absence(head)]
        targets = [mapping.get(head.outputs[0]) for mapping in absent]
        if not absent or None in targets:
            return None
        written = {value for item in branch for value in item.outputs}
        operands = [v for item in branch for v in reads(item) if v not in written]
        pairs = list(zip(absent, targets, strict=True))
        return next((v for v in operands if all(m.get(v) is t for m, t in pairs)), None)

    def can_be_written(self) -> bool:
        """Whether each part that an instance lacks has a branch, with one array in its place in all that lack it."""
        return all(
            item in self.inside
            or item in self.dependents
            or not self.cls.is_optional(item)
            or self._does_no_harm(item)
            for item in self.template.items
        )

    def _does_no_harm(self, item: Item) -> bool:
        """Whether an item may be computed where it is lacking: its inputs are there, and nothing reads it."""
        if not isinstance(item, Node) or any(value.is_parameter for value in item.inputs()):
            return False
        absent = [self.cls.values[i] for i in self._absence(item)]
        given = [value for value in item.inputs() if value in self.template.inputs]
        return all(
            all(mapping.get(value) is None for value in item.outputs)
            and all(mapping.get(value) is not None for value in given)
            for mapping in absent
        )
