"""Which items of a forward are written inside the branch of an optional one, and what stands in its place elsewhere."""

from __future__ import annotations

from porter.ir import Node, Value
from porter.passes.factor.classes import BlockClass
from porter.passes.factor.tree import Item, Loop, reads


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
            given = is_given(head)
            if (
                head in inside
                or isinstance(head, Loop)
                or not (given or self.cls.is_optional(head))
            ):
                continue
            branch: list[Item] = [head]
            absent = self._absence(head)
            own = self.fallback(head, branch) if given else None
            for item in backwards[place + 1 :]:
                if self._absence(item) != absent or own in item.outputs:
                    continue
                if isinstance(item, Loop) and not given:
                    continue
                users = [user for value in item.outputs for user in readers.get(value, [])]
                needed_outside = any(value in self.template.outputs for value in item.outputs)
                if users and not needed_outside and set(users) <= set(branch):
                    branch.append(item)
            if self.fallback(head, branch) is not None:
                result[head] = branch[:0:-1]
                inside |= set(branch[1:])
        return result

    def _absence(self, item: Item) -> frozenset[int]:
        return frozenset(i for i, found in enumerate(self.cls.of(item)) if found is None)

    def fallback(self, head: Item, branch: list[Item]) -> Value | None:
        """What takes the place of an optional item's output where it and the rest of its branch are lacking."""
        if len(head.outputs) != 1:
            return None
        if is_given(head):
            return head.args[2]  # type: ignore[union-attr, no-any-return]
        absent = next(iter(self._absence(head)), None)
        if absent is None:
            return None
        mapping = self.cls.values[absent]
        target = mapping.get(head.outputs[0])
        written = {value for item in branch for value in item.outputs}
        operands = [v for item in branch for v in reads(item) if v not in written]
        return next((v for v in operands if target is not None and mapping.get(v) is target), None)


def is_given(item: Item) -> bool:
    """Whether an item is done only where an input is given, which its `given` names."""
    return isinstance(item, Node) and "given" in item.attrs


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
