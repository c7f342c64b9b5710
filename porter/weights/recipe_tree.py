"""The recipe of a tensor: a small tree of functions over named source tensors, and its text form.

    permute(source("layer1.0.conv1.weight"), [0, 2, 3, 1])

A recipe says what to compute and holds no data, so it can be written down, compared and evaluated later.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from porter.errors import UsageError
from porter.weights.tensors import DTYPES

Number = int | float
Values = bool | int | float | tuple["Values", ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One function of the recipe language with its arguments; FUNCTIONS in recipe_text.py lists them all."""

    function: str
    arguments: tuple[Argument, ...]

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(_argument_text, self.arguments))})"


Argument = Recipe | str | bool | int | float | tuple["Argument", ...] | None


def sources(recipe: Recipe) -> set[str]:
    """The keys of the source tensors that the recipe reads."""
    return {
        key
        for node in walk(recipe)
        if node.function == "source"
        for key in node.arguments
        if isinstance(key, str)
    }


def walk(recipe: Recipe) -> Iterator[Recipe]:
    """The recipe and every recipe in it."""
    waiting: list[Argument] = [recipe]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Recipe):
            yield item
            waiting.extend(item.arguments)
        elif isinstance(item, tuple):
            waiting.extend(item)


def source(key: str) -> Recipe:
    """The tensor that the checkpoint calls `key`."""
    return Recipe("source", (key,))


def permute(x: Recipe, axes: Sequence[int]) -> Recipe:
    """x with its axes in the order `axes`; two permutes in a row become one, and one that changes nothing x."""
    order = tuple(map(int, axes))
    inner, before = x.arguments[0], x.arguments[-1]
    if x.function == "permute" and isinstance(inner, Recipe) and isinstance(before, tuple):
        if sorted(order) != list(range(len(before))):
            raise UsageError(
                f"{list(order)} does not order {len(before)} axes: correct the recipe."
            )
        return permute(inner, [before[a] for a in order])  # type: ignore[misc]
    return x if order == tuple(range(len(order))) else Recipe("permute", (x, order))


def reshape(x: Recipe, shape: Sequence[int]) -> Recipe:
    """x with another shape; one length may be -1."""
    return Recipe("reshape", (x, tuple(map(int, shape))))


def concatenate(xs: Sequence[Recipe], axis: int) -> Recipe:
    """The recipes `xs` one behind the other along `axis`."""
    return Recipe("concatenate", (tuple(xs), int(axis)))


def split(x: Recipe, sections: int | Sequence[int], axis: int, index: int) -> Recipe:
    """Part `index` of x, cut along `axis` into `sections` equal parts, or at the positions `sections`."""
    cuts = int(sections) if isinstance(sections, int) else tuple(map(int, sections))
    return Recipe("split", (x, cuts, int(axis), int(index)))


def slice(x: Recipe, axis: int, start: int | None, stop: int | None) -> Recipe:  # noqa: A001
    """x[start:stop] along `axis`, with Python's rules for None and negative positions."""
    return Recipe("slice", (x, int(axis), start, stop))


def take(x: Recipe, indices: Sequence[int], axis: int) -> Recipe:
    """The entries of x at `indices` along `axis`."""
    return Recipe("take", (x, tuple(map(int, indices)), int(axis)))


def cast(x: Recipe, dtype: str) -> Recipe:
    """x rounded to `dtype`; as the outermost function it also keeps the writer from choosing another."""
    if dtype not in DTYPES or DTYPES[dtype].mlx != dtype:
        raise UsageError(
            f"a recipe cannot cast to {dtype!r}: name an MLX element type, as float32."
        )
    return Recipe("cast", (x, dtype))


def from_fp8(x: Recipe) -> Recipe:
    """The float32 values of float8_e4m3fn codes."""
    return Recipe("from_fp8", (x,))


def add(x: Recipe | Number, y: Recipe | Number) -> Recipe:
    """x + y, with NumPy's broadcasting."""
    return Recipe("add", (_operand(x), _operand(y)))


def subtract(x: Recipe | Number, y: Recipe | Number) -> Recipe:
    """x - y, with NumPy's broadcasting."""
    return Recipe("subtract", (_operand(x), _operand(y)))


def multiply(x: Recipe | Number, y: Recipe | Number) -> Recipe:
    """x * y, with NumPy's broadcasting."""
    return Recipe("multiply", (_operand(x), _operand(y)))


def divide(x: Recipe | Number, y: Recipe | Number) -> Recipe:
    """x / y, with NumPy's broadcasting."""
    return Recipe("divide", (_operand(x), _operand(y)))


def negative(x: Recipe) -> Recipe:
    """-x."""
    return Recipe("negative", (x,))


def sqrt(x: Recipe) -> Recipe:
    """The square root of x."""
    return Recipe("sqrt", (x,))


def rsqrt(x: Recipe) -> Recipe:
    """1 / sqrt(x)."""
    return Recipe("rsqrt", (x,))


def square(x: Recipe) -> Recipe:
    """x * x."""
    return Recipe("square", (x,))


def maximum(x: Recipe | Number, y: Recipe | Number) -> Recipe:
    """The larger of x and y, with NumPy's broadcasting."""
    return Recipe("maximum", (_operand(x), _operand(y)))


def matmul(x: Recipe, y: Recipe) -> Recipe:
    """The matrix product of x and y, each of at least one axis."""
    return Recipe("matmul", (x, y))


def sum(x: Recipe, axes: Sequence[int], keepdims: bool) -> Recipe:  # noqa: A001
    """x summed over `axes`, which stay as axes of one with `keepdims`."""
    return Recipe("sum", (x, tuple(map(int, axes)), bool(keepdims)))


def mean(x: Recipe, axes: Sequence[int], keepdims: bool) -> Recipe:
    """The mean of x over `axes`, which stay as axes of one with `keepdims`."""
    return Recipe("mean", (x, tuple(map(int, axes)), bool(keepdims)))


def exp(x: Recipe) -> Recipe:
    """e to the x."""
    return Recipe("exp", (x,))


def constant(values: object, shape: Sequence[int], dtype: str = "float32") -> Recipe:
    """A tensor of `shape`: one number everywhere, or (nested lists of) numbers in row-major order."""
    return Recipe("constant", (_values(values), tuple(map(int, shape)), dtype))


def _operand(value: Recipe | Number) -> Recipe | Number:
    if isinstance(value, Recipe) or type(value) is int:
        return value
    if math.isnan(value):
        raise UsageError("a recipe cannot hold NaN as a number: compute it from a source tensor.")
    return float(value)


def _values(values: object) -> Values:
    if isinstance(values, (list, tuple)):
        return tuple(map(_values, values))
    if isinstance(values, (bool, int)):
        return values
    if isinstance(values, float) and not math.isnan(values):
        return values
    raise UsageError(f"a recipe's constant cannot hold {values!r}: give finite numbers.")


def _argument_text(argument: Argument) -> str:
    if isinstance(argument, tuple):
        return f"[{', '.join(map(_argument_text, argument))}]"
    if isinstance(argument, str):
        return quote(argument)
    if isinstance(argument, float) and math.isinf(argument):
        return "1e999" if argument > 0 else "-1e999"
    return str(argument) if isinstance(argument, Recipe) else repr(argument)


def quote(text: str) -> str:
    """`text` as a Python literal in double quotes, so that recipes look the same whatever they hold."""
    literal = repr(text)
    return literal if literal[0] == '"' else '"' + literal[1:-1].replace('"', '\\"') + '"'
