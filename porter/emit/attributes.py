"""Where a module keeps its layers, children and parameters: source paths to attributes, close to the checkpoint's keys."""

from __future__ import annotations

from dataclasses import dataclass, field

from porter.emit.names import identifier, unique
from porter.passes.factor.blocks import Block, Loop
from porter.passes.factor.classes import BlockClass
from porter.passes.factor.roll import list_position

Place = tuple[str | int, ...]


@dataclass(slots=True)
class Attributes:
    """The attribute of each relative source path of a class: ("blocks", 3), ("norm",)."""

    places: dict[str, Place] = field(default_factory=dict)

    @classmethod
    def of(cls, block_class: BlockClass, paths: list[str]) -> Attributes:
        """Places for the relative paths that the class's template uses."""
        attributes = cls()
        numbered = _numbered_lists(block_class)
        taken: dict[tuple[str, ...], str] = {}
        for path in paths:
            if path in attributes.places:
                continue
            place = list_position(path)
            if place is not None and place[0] in numbered:
                if (place[0],) not in taken:
                    short = identifier(place[0].rpartition(".")[2])
                    taken[(place[0],)] = (
                        short if short not in taken.values() else identifier(place[0])
                    )
                attributes.places[path] = (taken[(place[0],)], place[1] - numbered[place[0]])
                continue
            attributes.places[path] = _place(path, taken)
        attributes._compact()
        return attributes

    def _compact(self) -> None:
        """List items are counted from 0 without holes: what the port drops (a dropout, an unused layer) leaves none."""
        lists: dict[Place, set[int]] = {}
        for place in self.places.values():
            for depth, part in enumerate(place):
                if isinstance(part, int):
                    lists.setdefault(place[:depth], set()).add(part)
        ranks = {
            prefix: {n: rank for rank, n in enumerate(sorted(numbers))}
            for prefix, numbers in lists.items()
        }
        for path, place in self.places.items():
            self.places[path] = tuple(
                ranks[place[:depth]][part] if isinstance(part, int) else part
                for depth, part in enumerate(place)
            )

    def text(self, path: str) -> str:
        """`self.blocks[3]`."""
        return "self" + "".join(
            f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.places[path]
        )

    def dotted(self, path: str) -> str:
        """`blocks.3`, as in a parameter's path."""
        return ".".join(map(str, self.places[path]))


def _numbered_lists(block_class: BlockClass) -> dict[str, int]:
    """Prefixes such as `denselayer` whose numbered members a loop runs over, and the first number."""
    found: dict[str, int] = {}
    for item in block_class.template.items:
        if isinstance(item, Loop):
            paths = [block_class.template.relative(block.path) for block in item.blocks]
            place = list_position(paths[0])
            if place is not None and not paths[0].endswith(f".{place[1]}"):
                found[place[0]] = place[1]
    return found


def _place(path: str, taken: dict[tuple[str, ...], str]) -> Place:
    """Names are joined where the container between them has no class; numbers are list positions."""
    names: list[str] = []
    place: list[str | int] = []
    for part in path.split("."):
        if part.isdigit():
            names = names or ["layers"]
            place.append(int(part))
        else:
            names.append(part)
    key = tuple(names)
    if key not in taken:
        whole = names[:-1] if len(names) > 1 and names[-1] == "weight" else names
        short = (
            identifier(whole[-1], "layer") if whole[-1] != "bias" else identifier("_".join(whole))
        )
        joined = identifier("_".join(names), "layer")
        used = set(taken.values())
        taken[key] = short if short not in used else unique(joined, used)
    return (taken[key], *place)


def relative_paths(block: Block) -> list[str]:
    """The relative paths of a block's children, in the order of use."""
    paths: list[str] = []
    for item in block.items:
        if isinstance(item, Block):
            paths.append(block.relative(item.path))
        elif isinstance(item, Loop):
            paths += [block.relative(child.path) for child in item.blocks]
    return paths
