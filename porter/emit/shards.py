"""The method `shard`, which divides a decoder's layers among processes as mlx-lm's files do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from porter.emit.collect import Collection
from porter.emit.node_text import NodeText
from porter.emit.places import steps_of
from porter.ir import Node, Shards
from porter.passes.factor.blocks import Block
from porter.passes.factor.classes import BlockClass
from porter.passes.shard.spread import Whole

#: The layers inside mlx-lm's SwitchGLU.
_GATED = (("gate_proj", "all-to-sharded"), ("up_proj", "all-to-sharded"), ("down_proj", "sharded-to-all"))  # fmt: skip


def divided_sizes(cls: BlockClass, sizes: NodeText, lines: list[str], shards: Shards) -> list[str]:
    """The attributes of a class that a process has its part of, as heads are.

    Raises Whole where a forward reads such a size anywhere else, or has it as a number.
    """
    found: dict[str, None] = {}
    count = 0
    for node in cls.template.items:
        if not isinstance(node, Node) or node.op != ".reshape" or node.output not in shards.axes:
            continue
        axis = shards.axes[node.output]
        if any(o is not None and shards.axes.get(o.output) != axis for o in cls.of(node)):
            raise Whole(f"only some calls of {cls.name} divide their heads")
        text = str(sizes.sizes[id(node)][axis]) if id(node) in sizes.sizes else "-1"
        if text == "-1":
            continue
        name = re.fullmatch(r"self\.(\w+)", text)
        if name is None:
            raise Whole(f"{cls.name} has {text} where a size is divided")
        found[name[1]] = None
        count += 1
    read = sum(len(re.findall(rf"\bself\.{name}\b", line)) for name in found for line in lines)
    if read != count:
        raise Whole(f"{cls.name} reads {' and '.join(found)} elsewhere too")
    return list(found)


@dataclass(slots=True)
class _Part:
    """What is done to one child of a layer: sizes to be divided, statements, and the child's class."""

    sizes: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    cls: str = ""


def shard_method(
    shards: Shards, found: Collection, classes: dict[Block, BlockClass], sizes: dict[BlockClass, list[str]], layers: str
) -> str:  # fmt: skip
    """The source of `shard`; `layers` is the path of the list of layers. Raises Whole where no question tells them apart."""
    table: dict[int, dict[str, _Part]] = {}

    def part(path: str) -> tuple[_Part, str]:
        """The child of the layer that a path is in, and how the path is written from it."""
        match = re.fullmatch(rf"{re.escape(layers)}\.(\d+)\.(.+)", path)
        if match is None:
            raise Whole(f"{path} is in none of its layers")
        child, _, rest = match[2].partition(".")
        own = child if rest and not rest[0].isdigit() else "layer"
        place = table.setdefault(int(match[1]), {}).setdefault(own, _Part())
        return place, f"layer{steps_of(match[2])}" if own == "layer" else own + steps_of(rest)

    for block, path in found.places.items():
        if not isinstance(block, Block) or block not in classes:
            continue
        if divided := sizes.get(classes[block]):
            place, _ = part(f"{path}.x")
            place.sizes += [part(f"{path}.{name}")[1] for name in divided]
        if any(isinstance(item, Node) and item.op == "all_sum" for item in block.items):
            place, name = part(f"{path}.sharding_group")
            place.lines.append(f"{name} = group")
        match = re.fullmatch(rf"{re.escape(layers)}\.(\d+)\.(\w+)", path)
        if match is not None:
            table.setdefault(int(match[1]), {}).setdefault(match[2], _Part()).cls = classes[
                block
            ].name
    for node, (kind, segments, in_place) in shards.layers.items():
        if node not in found.places:
            raise Whole("a layer that would be divided has no place of its own")
        place, name = part(found.places[node])
        more = f", segments={segments}" if segments > 1 else ""
        if kind == "gated":
            place.lines += [_in_place(f"{name}.{own}", how, "") for own, how in _GATED]
        elif in_place:
            place.lines.append(_in_place(name, kind, more))
        else:
            place.lines.append(f'{name} = shard_linear({name}, "{kind}"{more}, group=group)')
    body = _children([{k: v for k, v in parts.items() if v.lines} for _, parts in sorted(table.items())], table)  # fmt: skip
    start = [
        "def shard(self, group: mx.distributed.Group | None = None) -> None:",
        '    """Leaves this process its part of the heads and of the hidden features of every layer."""',
        "    group = group or mx.distributed.init()",
        "    N = group.size()",
        f"    for layer in self.{layers}:",
    ]
    return "\n\n" + "\n".join(
        f"    {line}" for line in [*start, *(f"        {line}" for line in body)]
    )


def _in_place(name: str, kind: str, more: str) -> str:
    return f'shard_inplace({name}, "{kind}"{more}, group=group)'


def _children(rows: list[dict[str, _Part]], table: dict[int, dict[str, _Part]]) -> list[str]:
    """The statements for each child of a layer; where layers differ in one, by what it is."""
    lines: list[str] = []
    for name in dict.fromkeys(name for row in rows for name in row):
        variants: dict[tuple[str, ...], set[str]] = {}
        lacking = 0
        for parts in table.values():
            place = parts.get(name)
            if place is None:
                lacking += 1
            else:
                variants.setdefault(tuple(_statements(place)), set()).add(place.cls)
        kinds = [cls for group in variants.values() for cls in group]
        if len(variants) > 1 and len(set(kinds)) < len(kinds):
            raise Whole(f"{name} is divided in some layers only")
        bound = [] if name == "layer" else [f"{name} = layer.{name}"]
        if len(variants) == 1:
            block = [*bound, *next(iter(variants))]
        elif lacking:
            raise Whole(f"its layers have several kinds of {name}")
        else:
            block = bound
            for k, (statements, group) in enumerate(v for v in variants.items() if v[0]):
                asked = f"isinstance({name}, {' | '.join(sorted(group))})"
                block.append(f"{'elif' if k else 'if'} {asked}:")
                block += [f"    {line}" for line in statements]
        lines += (
            [f'if "{name}" in layer:', *(f"    {line}" for line in block)] if lacking else block
        )
    return lines


def _statements(part: _Part) -> list[str]:
    """Guard, layers, sizes: that a head is cut in two would go unnoticed."""
    sizes = list(dict.fromkeys(part.sizes))
    odd = " or ".join(f"{name} % N" for name in sizes)
    guard = [f"if {odd}:", '    raise ValueError(f"{N} processes can\'t share the heads evenly.")']
    lines = dict.fromkeys(part.lines)
    return [*(guard if sizes else ()), *lines, *(f"{name} //= N" for name in sizes)]
