"""How a forward asks whether its instance has an optional part: `"downsample" in self`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.emit.literals import Vector
from porter.ir import Node
from porter.passes.factor.blocks import Block, Item, reads
from porter.passes.factor.layer_names import member_path

if TYPE_CHECKING:
    from porter.emit.class_writer import ClassWriter


def condition(writer: ClassWriter, item: Item, flag: Vector) -> str:
    """How the forward asks whether this instance has an optional part."""
    if isinstance(item, Block) or (isinstance(item, Node) and item.is_layer):
        path = (
            member_path(writer.template, item)
            if isinstance(item, Node)
            else writer.template.relative(item.path)
        )
        place = writer.attributes.places[path]
        if len(place) == 1 and not _serves_others(writer, item, path, flag):
            return f'"{place[0]}" in self'
    absent = frozenset(i for i, found in flag.items() if not found)
    for value, name in zip(
        writer.template.inputs, writer.body.statements.names_of_inputs, strict=True
    ):
        needed = [
            v
            for part in [item, *writer.body.branches.dependents.get(item, [])]
            for v in reads(part)
        ]
        if value in needed and writer.cls.lacking(value) == absent:
            return f"{name} is not None"
    for path, items in writer.members:
        present = {i for i, _ in items}
        place = writer.attributes.places[path]
        if len(place) == 1 and absent == set(range(len(writer.cls.instances))) - present:
            return f'"{place[0]}" in self'
    names = {
        "+": ("has_skip", "has_residual", "use_residual", "use_res_connect"),
        "mx.roll": ("shift",),
    }
    op = item.op if isinstance(item, Node) else ""
    if isinstance(item, Node):
        own = [v for v in item.inputs() if v.is_parameter and writer.template.owns(v.path or "")]
        if (
            own
            and len(writer.attributes.places.get(writer.template.relative(own[0].path or ""), ()))
            == 1
        ):
            return f'"{writer.attributes.places[writer.template.relative(own[0].path or "")][0]}" in self'
    return writer.arguments.flag(
        flag,
        *names.get(op, (f"use_{op.rpartition('.')[2]}" if op else "enabled",)),
        in_call=True,
    )


def _serves_others(writer: ClassWriter, item: Item, path: str, flag: Vector) -> bool:
    """Whether an attribute is there for another call too, which other instances have: a pooling before each branch."""
    for other in writer.template.items:
        if other is item or not isinstance(other, Node) or not other.is_layer or other.params:
            continue
        same = all((found is not None) == flag[i] for i, found in enumerate(writer.cls.of(other)))
        if member_path(writer.template, other) == path and not same:
            return True
    return False
