"""The recipes of one size of a model as templates for another: deeper lists, wider tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod

from porter.errors import InputError
from porter.weights.recipe_specs import shape_of
from porter.weights.recipe_tree import Argument, Recipe
from porter.weights.tensors import Tensors

_NUMBER = re.compile(r"(\d+)")
Numbers = tuple[int, ...]


def recipes_for(
    shapes: Mapping[str, tuple[int, ...]], table: Mapping[str, Recipe], tensors: Tensors
) -> dict[str, Recipe]:
    """A recipe for each parameter path of another size, from those of the size that was ported.

    `shapes` are what the model of the other size has. `layers.7.norm.weight` is made like that of the nearest layer: the
    numbers of its source keys follow those of the path as they do there. Raises InputError where no recipe is like the one
    that is needed, or where it gives another shape.
    """
    groups: dict[str, dict[Numbers, Recipe]] = {}
    for path, recipe in table.items():
        pattern, numbers = _split(path)
        groups.setdefault(pattern, {})[numbers] = recipe
    found: dict[str, Recipe] = {}
    for path, shape in shapes.items():
        pattern, numbers = _split(path)
        if pattern not in groups:
            raise InputError(
                f"The earlier port has no parameter like {path}: convert this size without --mapping."
            )
        recipe = _fitted(_like(groups[pattern], numbers), shape)
        made = shape_of(recipe, tensors)
        if made != shape:
            raise InputError(
                f"{path} would get the shape {list(made)}, and this size of the model has {list(shape)}: "
                "convert it without --mapping."
            )
        found[path] = recipe
    return found


def _split(text: str) -> tuple[str, Numbers]:
    """A name with its numbers taken out, and the numbers."""
    parts = _NUMBER.split(text)
    return "#".join(parts[::2]), tuple(map(int, parts[1::2]))


def _like(group: Mapping[Numbers, Recipe], numbers: Numbers) -> Recipe:
    """The recipe for a path with these numbers, from those of paths that differ in their numbers only."""
    if numbers in group:
        return group[numbers]
    nearest = min(
        group, key=lambda known: [abs(a - b) for a, b in zip(known, numbers, strict=True)]
    )
    keys = {known: _keys(recipe) for known, recipe in group.items()}
    alike = {known: row for known, row in keys.items() if len(row) == len(keys[nearest])}
    renamed = {
        key: _renamed([(known, row[k]) for known, row in alike.items()], nearest, numbers)
        for k, key in enumerate(keys[nearest])
    }
    return _with_keys(group[nearest], renamed)


def _renamed(known: list[tuple[Numbers, str]], nearest: Numbers, wanted: Numbers) -> str:
    """A source key with its numbers changed as the path's: those that are a path's number plus a constant in all keys."""
    table = {numbers: _split(key) for numbers, key in known}
    pattern, values = table[nearest]
    table = {numbers: split for numbers, split in table.items() if split[0] == pattern}
    result = []
    for place, value in enumerate(values):
        column = {numbers: split[1][place] for numbers, split in table.items()}
        if len(column) > 1 and len(set(column.values())) == 1:
            result.append(value)
            continue
        sources = [
            at
            for at in range(len(wanted))
            if len({number - numbers[at] for numbers, number in column.items()}) == 1
            and (len(column) > 1 or value == nearest[at])
        ]
        result.append(value + wanted[sources[0]] - nearest[sources[0]] if sources else value)
    words = pattern.split("#")
    return words[0] + "".join(f"{n}{word}" for n, word in zip(result, words[1:], strict=True))


def _keys(recipe: Recipe) -> list[str]:
    """The source keys in the order in which the recipe names them."""
    if recipe.function == "source":
        return [str(recipe.arguments[0])]
    found: list[str] = []

    def visit(item: Argument) -> None:
        if isinstance(item, Recipe):
            found.extend(_keys(item))
        elif isinstance(item, tuple):
            for entry in item:
                visit(entry)

    visit(recipe.arguments)
    return found


def _with_keys(item: Recipe, keys: Mapping[str, str]) -> Recipe:
    if item.function == "source":
        return Recipe("source", (keys[str(item.arguments[0])],))

    def change(argument: Argument) -> Argument:
        if isinstance(argument, Recipe):
            return _with_keys(argument, keys)
        return tuple(map(change, argument)) if isinstance(argument, tuple) else argument

    return Recipe(item.function, tuple(map(change, item.arguments)))


def _fitted(recipe: Recipe, shape: tuple[int, ...]) -> Recipe:
    """The recipe with the lengths of an outer reshape as the shape wants them."""
    inner = recipe.arguments[0] if recipe.arguments else None
    if not isinstance(inner, Recipe):
        return recipe
    if recipe.function == "reshape":
        return Recipe("reshape", (_stretched(inner, prod(shape)), shape))
    order = recipe.arguments[-1]
    if recipe.function == "permute" and isinstance(order, tuple) and len(order) == len(shape):
        before = [0] * len(shape)
        for place, axis in enumerate(order):
            before[int(axis)] = shape[place]  # type: ignore[arg-type]
        return Recipe("permute", (_fitted(inner, tuple(before)), order))
    return recipe


def _stretched(recipe: Recipe, length: int) -> Recipe:
    """A vector that lies along one axis among axes of 1, as long as it is to be."""
    inner = recipe.arguments[0] if recipe.arguments else None
    if not isinstance(inner, Recipe):
        return recipe
    sizes = recipe.arguments[-1]
    if recipe.function == "permute":
        return Recipe("permute", (_stretched(inner, length), sizes))
    is_row = isinstance(sizes, tuple) and sum(size != 1 for size in sizes) == 1
    if recipe.function == "reshape" and isinstance(sizes, tuple) and is_row:
        wider = tuple(1 if size == 1 else length for size in sizes)
        return Recipe("reshape", (_stretched(inner, length), wider))
    return recipe
