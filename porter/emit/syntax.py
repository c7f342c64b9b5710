"""MLX calls as Python expressions, with parentheses only where they are needed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from porter.emit.literals import Code, literal

#: Binding strength, Python's own order.
PRECEDENCE = {
    "if": 1, "|": 6, "^": 7, "&": 8, "==": 5, "!=": 5, "<": 5, "<=": 5, ">": 5, ">=": 5, "+": 10, "-": 10, "*": 11, "/": 11,
    "//": 11, "%": 11, "@": 11, "neg": 12, "~": 12, "**": 13,
}  # fmt: skip
ATOM = 20
DTYPES = {
    "float16", "bfloat16", "float32", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "complex64",
}  # fmt: skip


@dataclass(slots=True)
class Text:
    """Source text, how strongly it binds, how deep its calls nest, and the locals it reads."""

    code: str
    strength: int = ATOM
    depth: int = 0
    names: set[str] = field(default_factory=set)

    def at(self, strength: int) -> str:
        """The code, in parentheses where it binds less strongly than its surroundings need."""
        return f"({self.code})" if self.strength < strength else self.code


def dtype_text(name: str) -> str:
    return "mx.bool_" if name == "bool" else f"mx.{name}"


def infix(op: str, left: Text, right: Text) -> Text:
    strength = PRECEDENCE[op]
    a = left.at(strength + (op == "**" or strength == 5))
    b = right.at(strength + (op != "**"))
    tight = op == "**"
    code = f"{a}**{b}" if tight else f"{a} {op} {b}"
    return Text(code, strength, max(left.depth, right.depth), left.names | right.names)


def arithmetic(op: str, left: Text, right: Text) -> Text:
    """Two operands; a negative number is taken off rather than added."""
    if op in ("+", "-") and re.fullmatch(r"-[\d.e-]+", right.code):
        right = replace(right, code=right.code[1:], strength=ATOM)
        return infix("-" if op == "+" else "+", left, right)
    return infix(op, left, right)


def prefix(op: str, operand: Text) -> Text:
    return Text(
        f"{'-' if op == 'neg' else op}{operand.at(PRECEDENCE[op])}",
        PRECEDENCE[op],
        operand.depth,
        operand.names,
    )


def call(function: str, args: list[Text], kwargs: dict[str, Text] | None = None) -> Text:
    parts = [arg.code for arg in args] + [
        f"{key}={value.code}" for key, value in (kwargs or {}).items()
    ]
    every = [*args, *(kwargs or {}).values()]
    names = set().union(*(part.names for part in every)) if every else set()
    return Text(
        f"{function}({', '.join(parts)})",
        ATOM,
        1 + max((part.depth for part in every), default=0),
        names,
    )


def method(receiver: Text, name: str, args: list[Text]) -> Text:
    result = call(f"{receiver.at(ATOM)}.{name}", args)
    return Text(
        result.code, ATOM, max(result.depth, receiver.depth + 1), result.names | receiver.names
    )


def sequence(items: list[Text], brackets: str) -> Text:
    code = ", ".join(item.code for item in items)
    if brackets == "()" and len(items) == 1:
        code += ","
    names = set().union(*(item.names for item in items)) if items else set()
    return Text(
        f"{brackets[0]}{code}{brackets[1]}",
        ATOM,
        max((item.depth for item in items), default=0),
        names,
    )


def plain(value: Any) -> Text:
    """A number, string, None or piece of code."""
    code = literal(value)
    negative = (
        isinstance(value, (int, float)) and not isinstance(value, bool) and code.startswith("-")
    )
    return Text(code, PRECEDENCE["neg"] if negative else ATOM)


def is_code(value: Any) -> bool:
    return isinstance(value, Code)


def subscript(receiver: Text, key: list[Text]) -> Text:
    names = receiver.names.union(*(part.names for part in key)) if key else receiver.names
    return Text(
        f"{receiver.at(ATOM)}[{', '.join(part.code for part in key)}]", ATOM, receiver.depth, names
    )


def slice_text(start: Text | None, stop: Text | None, step: Text | None) -> Text:
    code = f"{start.code if start else ''}:{stop.code if stop else ''}" + (
        f":{step.code}" if step else ""
    )
    names = set().union(*(part.names for part in (start, stop, step) if part))
    return Text(code, ATOM, 0, names)


Renderer = Callable[[Any], Text]
