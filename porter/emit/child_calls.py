"""The constructor call of a child: `Block(args)` or `Block(dim, heads, stride=2)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from porter.emit.arguments import Arguments
from porter.emit.literals import Vector, literal
from porter.emit.variants import Variants
from porter.passes.factor.blocks import Block
from porter.passes.factor.classes import BlockClass

Instances = list[tuple[int, Any]]  # (instance of the class, what the item is there)


class ChildCalls:
    """Writes what the constructors of a class's children are given, in terms of the class's own arguments."""

    def __init__(
        self,
        cls: BlockClass,
        arguments: Arguments,
        child: Callable[[Block], Any],
        variants: Variants,
    ):
        self.cls = cls
        self.arguments = arguments
        self.child = child  # block -> (class, its arguments, which instance the block is)
        self.variants = variants

    def text(self, items: Instances) -> str:
        """The call of the block that each instance has in one place."""
        cls, arguments, _ = self.child(items[0][1])
        vectors = {}
        for name in arguments.ordered():
            given = self._given(name, arguments, items)
            if any(literal(value) != arguments.default(name) for value in given.values()):
                vectors[name] = given
        attribute = items[0][1].path.rpartition(".")[2]
        named = attribute.isidentifier()
        texts = {
            n: self.argument(
                v,
                n,
                f"{attribute}_{n}" if named and n in arguments.made else n,
                n in arguments.sizes,
                f"{attribute}_{n}" if named else "",
            )
            for n, v in vectors.items()
        }
        return self.call(cls.name, arguments, texts)

    def _given(self, name: str, arguments: Arguments, items: Instances) -> Vector:
        """What a child's parameter is in each instance of this class, in every size of the model that knows it."""
        vector, blocks = arguments.parameters[name], dict(items)
        cls = self.child(items[0][1])[0]
        given: Vector = {i: vector.get(self.child(block)[2]) for i, block in items}
        for k, (key, i, _) in enumerate(self.variants.keys(self.cls, blocks)):
            inner = self.child(blocks[i])[2] + len(cls.instances) * (1 + k // len(blocks))
            if vector.get(inner) is not None:
                given[key] = vector[inner]
        return given

    def argument(
        self, vector: Vector, name: str, hint: str = "", is_size: bool = False, fallback: str = ""
    ) -> str:
        known = {i: value for i, value in vector.items() if value is not None}
        if not known:
            return "None"
        return self.arguments.look_up(known, name) or self.arguments.resolve(
            known, hint or name, name, fallback=fallback, is_size=is_size
        )

    def call(self, name: str, arguments: Arguments, texts: dict[str, str]) -> str:
        parts = ["args"] if arguments.uses_args else []
        if arguments.uses_args:
            self.arguments.uses_args = True
        by_position = True
        required = [parameter for parameter in texts if arguments.default(parameter) is None]
        for position, parameter in enumerate(required):
            text = texts[parameter]
            by_position &= position < 3 and text not in ("True", "False", "None")
            parts.append(text if by_position else f"{parameter}={text}")
        parts += [
            f"{parameter}={text}" for parameter, text in texts.items() if parameter not in required
        ]
        return f"{name}({', '.join(parts)})"
