"""What the emitted classes are called."""

from __future__ import annotations

from porter.emit.names import class_name, unique
from porter.emit.places import children
from porter.ir import Node
from porter.passes.factor.blocks import Block
from porter.passes.factor.classes import BlockClass


def name_classes(order: list[BlockClass], classes: dict[Block, BlockClass], root: Block) -> None:
    """Names each class after its source class; what makes one differ from its twins becomes part of its name.

    The plain name goes to the class that has most instances, then to the first.
    """
    taken = {"Model", "ModelArgs"}
    special = {cls: _special_part(cls, order) for cls in order}
    for cls in order:  # children first: a parent is special by the special child it has
        parts = [
            special[classes[child]] for child in children(cls.template) if special[classes[child]]
        ]
        twins = [
            other for other in order if other is not cls and other.template.cls == cls.template.cls
        ]
        if not special[cls] and twins and parts:
            special[cls] = parts[0]
    for cls in sorted(order, key=lambda cls: (cls.template is not root, -len(cls.instances))):
        name = class_name(cls.name)
        if not special[cls] and name in taken:
            called = {block.path.rpartition(".")[2] for block in cls.instances}
            attribute = called.pop() if len(called) == 1 else ""
            name = class_name(_camel(attribute)) if attribute.isidentifier() else name
        if special[cls] and name in taken | {class_name(o.name) for o in order if o is not cls}:
            name = f"{name}With{special[cls]}"
        cls.name = "Model" if cls.template is root else unique(name, taken)


def _special_part(cls: BlockClass, order: list[BlockClass]) -> str:
    """What a class keeps that the other classes of its source class don't: RelativeAttentionBias."""
    twins = [
        other for other in order if other is not cls and other.template.cls == cls.template.cls
    ]
    own = _kept_names(cls.template)
    extra = (
        sorted(own - set().union(*(_kept_names(other.template) for other in twins)))
        if twins
        else []
    )
    if not extra or not extra[0].isidentifier():
        return ""
    return _camel(extra[0])


def _camel(name: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in name.split("_"))


def _kept_names(block: Block) -> set[str]:
    """The first parts of the paths of what a block keeps."""
    paths = [block.relative(item.path) for item in block.items if isinstance(item, Block)]
    for item in block.items:
        if isinstance(item, Node):
            paths += [
                block.relative(v.path or "")
                for v in item.inputs()
                if v.is_parameter and block.owns(v.path or "")
            ]
    return {path.partition(".")[0] for path in paths}
