"""Sizes inside a forward: which come from an array's shape, which from an attribute, which is -1."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any

from sympy import Expr, Symbol

from porter.emit.literals import Vector, is_constant
from porter.emit.variants import Variants
from porter.ir import Location, Node, Size, Value
from porter.ir.builder import simplify
from porter.passes.factor.classes import BlockClass
from porter.passes.layout.permutations import reshape_blocks

Key = tuple[Value, int]  # an array and one of its axes

_LETTERS = {1: "N", 2: "BL", 3: "BLD", 4: "BHWC", 5: "BTHWC", 6: "BTHWCD"}


@dataclass(slots=True)
class Dims:
    """The axes of arrays that a forward needs by name: `B, L, D = x.shape`."""

    cls: BlockClass
    variants: Variants
    names: dict[Key, str] = field(default_factory=dict)
    #: names of the sides of squares whose axes were merged
    roots: dict[Key, str] = field(default_factory=dict)
    label: Callable[[Value], str] = str
    #: what is made inside a branch that not all instances take
    hidden: Collection[Value] = ()

    def shapes(self, value: Value) -> list[tuple[Size, ...]]:
        """The value's shape in each instance that has it."""
        return [mapping[value].shape for mapping in self.cls.values if value in mapping]

    def vector(self, value: Value, axis: int) -> Vector:
        """An axis of an array in each instance that has it; empty for what an optional part makes: it has no name to read."""
        inputs = self.cls.template.inputs
        if not value.is_parameter and value not in inputs and self._may_lack(value):
            return {}
        here = {
            i: mapping[value].shape[axis]
            for i, mapping in enumerate(self.cls.values)
            if value in mapping
        }
        return here | {k: other.shape[axis] for k, other in self.variants.values(self.cls, value)}

    def find(
        self, vector: Vector, candidates: list[Value], used: Collection[Key] = ()
    ) -> Key | None:
        """An axis of a candidate that has the wanted size in every instance, if there is one not `used` already."""
        if not vector:  # any axis would do
            return None
        keys = [*self.names, *((value, axis) for value in candidates for axis in range(value.rank))]
        fitting = [key for key in dict.fromkeys(keys) if self._fits(vector, *key)]
        # of a square map, height and width: the other axis of an array that one is taken from
        twins = [
            key for key in fitting if key not in used and key[0] in {value for value, _ in used}
        ]
        return next(iter([*twins, *fitting]), None)

    def _fits(self, vector: Vector, value: Value, axis: int) -> bool:
        have = self.vector(value, axis)
        return all(i in have and simplify(have[i] - size) == 0 for i, size in vector.items())

    def name(self, value: Value, axis: int, taken: set[str]) -> str:
        key = (value, axis)
        if value.is_parameter or self._may_lack(value):  # may be None: measured where it is used
            return f"{self.label(value)}.shape[{axis}]"
        if key not in self.names:
            letters = _LETTERS.get(value.rank, "BTHWCDEF")
            self.names[key] = self._letter([letters[axis % len(letters)], *"NSMKPQRUVWXYZ"], taken)
        return self.names[key]

    def _may_lack(self, value: Value) -> bool:
        return value in self.hidden or bool(self.cls.lacking(value))

    def root(self, key: Key, taken: set[str]) -> str:
        """The name of the side of a square whose cells lie along an axis."""
        name = self.name(*key, taken)
        if "." in name:
            return f"int({name}**0.5)"
        if key not in self.roots:
            self.roots[key] = self._letter([*"HSMKPQRUVWXYZ"], taken)
        return self.roots[key]

    def roots_of(self, value: Value) -> list[tuple[str, str]]:
        """(name of an axis, name of its square root) for an array."""
        return [(self.names[key], root) for key, root in self.roots.items() if key[0] is value]

    def letters(self) -> set[str]:
        return {*self.names.values(), *self.roots.values()}

    def _letter(self, choices: list[str], taken: set[str]) -> str:
        used = self.letters() | taken
        more = (a + b for a in ascii_uppercase for b in ascii_uppercase)
        return next(letter for letter in itertools.chain(choices, more) if letter not in used)

    def axes(self, value: Value) -> dict[int, str]:
        return {axis: name for (owner, axis), name in self.names.items() if owner is value}


def is_symbolic(vector: Vector) -> bool:
    return any(isinstance(size, Expr) for size in vector.values())


def symbols_of(vector: Vector) -> set[Symbol]:
    return {
        symbol for size in vector.values() if isinstance(size, Expr) for symbol in size.free_symbols
    }  # type: ignore[misc]


def splits(node: Node) -> dict[int, tuple[int, int]]:
    """Target axes of a reshape that are the first part of a split axis: {target axis: (source axis, product of the rest)}."""
    blocks = reshape_blocks(node.args[0].shape, node.output.shape)
    result: dict[int, tuple[int, int]] = {}
    for left, right in blocks or []:
        if len(left) == 1 and len(right) == 2 and isinstance(node.output.shape[right[1]], int):
            result[right[0]] = (left[0], right[1])
    return result


def author_sizes(location: Location | None, count: int) -> list[str | None]:
    """What the author wrote for each size of a reshape on that line: the attribute of self, or a telling local; or None."""
    from porter.frontends.source_lines import local_values, statement_at

    statement = statement_at(location.file, location.line) if location else None
    if location is None or statement is None:
        return [None] * count
    known = local_values(location.file, location.line)
    for node in ast.walk(statement):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("reshape", "view")
        ):
            args: list[ast.expr] = list(node.args)
            if len(args) == 1 and isinstance(args[0], (ast.Tuple, ast.List)):
                args = list(args[0].elts)
            if len(args) == count:
                return [_author_name(arg, known) for arg in args]
    return [None] * count


def _author_name(expression: ast.expr, known: dict[str, ast.expr]) -> str | None:
    """`window_size` of `self.window_size`, of a local that was set to it, or of a local of that name."""
    if isinstance(expression, ast.Name):
        behind = known.get(expression.id)
        name = _author_name(behind, {}) if behind is not None else None
        return name or (expression.id if len(expression.id) > 2 else None)
    if (
        isinstance(expression, ast.Attribute)
        and isinstance(expression.value, ast.Name)
        and expression.value.id == "self"
    ):
        return expression.attr
    return None


def constant(vector: Vector) -> Any:
    """The one value of a constant vector."""
    return next(iter(vector.values())) if is_constant(vector) else None


def sizes_in(part: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    """(path, size) of each symbolic size in nested arguments."""
    if isinstance(part, dict):
        return [found for key, item in part.items() for found in sizes_in(item, (*path, key))]
    if isinstance(part, (list, tuple)):
        return [found for p, item in enumerate(part) for found in sizes_in(item, (*path, p))]
    if isinstance(part, slice):
        return [
            found
            for key in ("start", "stop", "step")
            for found in sizes_in(getattr(part, key), (*path, key))
        ]
    return [(path, part)] if isinstance(part, Expr) else []


def size_at(part: Any, path: tuple[Any, ...]) -> Any:
    """What stands at such a path."""
    for key in path:
        part = getattr(part, key) if isinstance(part, slice) else part[key]
    return part
