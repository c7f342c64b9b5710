"""Where the items of a block stand: attribute paths of layers and children, and the layer that holds a parameter."""

from __future__ import annotations

from porter.emit.attributes import Attributes
from porter.ir import Node, Value
from porter.passes.factor.blocks import Block, Item, Loop
from porter.passes.factor.classes import BlockClass
from porter.passes.factor.layer_names import member_path


def placed(block: Block, item: Item, attributes: Attributes) -> list[tuple[Block, str]]:
    """The blocks that an item calls, with their attribute paths."""
    if isinstance(item, Block):
        return [(item, "" if block.is_sequential else attributes.dotted(block.relative(item.path)))]
    if isinstance(item, Loop):
        place = attributes.places[block.relative(item.blocks[0].path)]
        return [
            (child, ".".join(map(str, (*place[:-1], int(place[-1]) + k))))
            for k, child in enumerate(item.blocks)
        ]
    return []


def blocks_of(item: Item) -> list[Block]:
    """The blocks that an item calls: one, a loop's, or none."""
    return item.blocks if isinstance(item, Loop) else [item] if isinstance(item, Block) else []


def steps_of(path: str) -> str:
    """`.blocks[3]` of "blocks.3"."""
    return "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path.split("."))


def children(block: Block) -> list[Block]:
    """The blocks with a class below, through Sequentials."""
    result: list[Block] = []
    for item in block.items:
        for child in blocks_of(item):
            result += children(child) if child.is_sequential else [child]
    return result


class Housing:
    """Which layer holds a parameter; `attributes` fills as the classes are written, leaves first."""

    def __init__(self, classes: dict[Block, BlockClass]):
        self.classes = classes
        self.attributes: dict[BlockClass, Attributes] = {}

    def of(self, block: Block) -> Attributes:
        """The attributes of a block's class."""
        return self.attributes[self.classes[block]]

    def layer_of(self, block: Block, value: Value) -> Node | None:
        """The layer right in the block that has the parameter."""
        return next(
            (
                n
                for n in block.items
                if isinstance(n, Node)
                and n.is_layer
                and any(p.path == value.path for p in n.params.values())
            ),
            None,
        )

    def keeps(self, block: Block, value: Value) -> bool:
        """Whether a layer of the block, or of a module below it, holds the parameter."""
        if self.layer_of(block, value) is not None:
            return True
        children = [b for item in block.items for b in blocks_of(item)]
        return any(child.owns(value.path or "") and self.keeps(child, value) for child in children)

    def find_below(self, block: Block, value: Value) -> str | None:
        """`.model.embed_tokens.weight`: where a module further down keeps a parameter that this one reads as well."""
        attributes = self.attributes.get(self.classes[block], Attributes())
        for position, item in enumerate(block.items):
            for child, relative in placed(block, item, attributes):
                if not child.owns(value.path or ""):
                    continue
                owner = self.layer_of(child, value)
                steps = f".layers[{position}]" if block.is_sequential else steps_of(relative)
                if owner is None:
                    deeper = self.find_below(child, value)
                    return None if deeper is None else f"{steps}{deeper}"
                role = next(role for role, p in owner.params.items() if p.path == value.path)
                if child.is_sequential:
                    return f"{steps}.layers[{child.items.index(owner)}].{role}"
                inner = self.attributes[self.classes[child]].dotted(member_path(child, owner))
                return f"{steps}{steps_of(inner)}.{role}"
        return None
