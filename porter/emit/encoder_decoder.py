"""A model that encodes once and decodes token by token: `encode`, `decode`, and a `__call__` that does both."""

from __future__ import annotations

from dataclasses import replace

from porter.emit.names import identifier
from porter.ir import Memory, Program, Value
from porter.passes.factor.blocks import Block, Item, reads

#: What the encoder hands over is called.
_MEMORY = "memory"


def parts(root: Block, memory: Memory) -> tuple[Block, Block]:
    """The root's items as two methods; both may hold an item that both need (a padding mask)."""
    encode, decode = replace(root), replace(root)
    encode.items = _needed(root.items, memory.values, set())
    encode.inputs = [value for value in root.inputs if _is_read(value, encode.items)]
    encode.outputs = list(memory.values)
    decode.items = _needed(root.items, [memory.logits], set(memory.values))
    state = [value for value in root.inputs if value.dtype == "caches"]
    others = [v for v in root.inputs if _is_read(v, decode.items) and v not in (memory.ids, *state)]
    decode.inputs = [memory.ids, *memory.values, *others, *state]
    decode.outputs = [memory.logits]
    return encode, decode


def names_of(block: Block, memory: Memory) -> list[str]:
    """What a method calls its inputs."""
    names = []
    for value in block.inputs:
        place = memory.values.index(value) if value in memory.values else None
        own = value.name or "state"
        names.append(
            identifier(value.origin or "x")
            if place is None
            else _MEMORY
            if place == 0
            else f"{_MEMORY}_{own}"
        )
    return names


def forward(program: Program, encode: Block, decode: Block, memory: Memory) -> list[str]:
    """The statements of `__call__`."""
    given = ", ".join(identifier(value.origin or "x") for value in encode.inputs)
    several = len(memory.values) > 1
    handed = [
        identifier(value.origin or "x")
        for value in decode.inputs
        if value not in memory.values and value.dtype != "caches"
    ]
    handed.insert(1, f"*{_MEMORY}" if several else _MEMORY)
    result = f"self.decode({', '.join(handed)})"
    texts = [
        result
        if value is memory.logits
        else f"{_MEMORY}[{memory.values.index(value)}]"
        if several
        else _MEMORY
        for value in program.output_values()
    ]
    lines = [f"{_MEMORY} = self.encode({given})"]
    if program.output_kind == "dict":
        pairs = zip([name for name, _ in program.outputs], texts, strict=True)
        return [*lines, f"return {{{', '.join(f'{name!r}: {text}' for name, text in pairs)}}}"]
    return [*lines, f"return {', '.join(texts)}"]


def _needed(items: list[Item], wanted: list[Value], given: set[Value]) -> list[Item]:
    """The items that `wanted` is made by, where `given` is there already."""
    needed = set(wanted)
    found: list[Item] = []
    for item in reversed(items):
        if any(value in needed and value not in given for value in item.outputs):
            found.append(item)
            needed.update(reads(item))
    return found[::-1]


def _is_read(value: Value, items: list[Item]) -> bool:
    return any(value in reads(item) for item in items)
