"""Parameters rearranged on the way from the checkpoint: the recipe does it, never the forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from porter.ir import Value
from porter.weights.recipes import Recipe, cast, permute, reshape
from porter.weights.recipes import slice as cut


def permuted(value: Value, axes: Sequence[int]) -> Value:
    """The same parameter with its axes in another order."""
    axes = tuple(axes)
    if axes == tuple(range(value.rank)):
        return value
    before = value.permute or tuple(range(value.rank))
    return Value(
        tuple(value.shape[axis] for axis in axes),
        value.dtype,
        name=value.name,
        origin=value.origin,
        permute=tuple(before[axis] for axis in axes),
        path=value.path,
        recipe=permute(value.recipe, axes),
        source_shape=value.source_shape,
        data=None if value.data is None else value.data.transpose(axes),
    )


def reshaped(value: Value, shape: Sequence[int]) -> Value:
    """The same parameter with another shape."""
    shape = tuple(shape)
    if shape == value.shape:
        return value
    data = None if value.data is None else value.data.reshape(shape)
    return Value(
        shape,
        value.dtype,
        name=value.name,
        path=value.path,
        recipe=_reshaped_recipe(value, shape),
        source_shape=value.source_shape,
        data=data,
    )


def column(value: Value, key: Sequence[int | None]) -> Value:
    """What stands at the numbers of `key` along its axes, which go; None keeps an axis. Never rounded further."""
    recipe, shape = value.recipe, []
    for axis, place in enumerate(key):
        if place is None:
            shape.append(value.shape[axis])
        else:
            recipe = cut(recipe, axis, place, place + 1)
    data = (
        None
        if value.data is None
        else value.data[tuple(slice(None) if k is None else k for k in key)]
    )
    return Value(
        tuple(shape), "float32", name=value.name, path=value.path, recipe=cast(reshape(recipe, shape), "float32"), data=data
    )  # fmt: skip


def _reshaped_recipe(value: Value, shape: tuple[int, ...]) -> Recipe:
    """Of two reshapes in a row only the last counts; one back to the checkpoint's own shape goes."""
    recipe: Recipe = value.recipe
    if recipe.function == "reshape" and isinstance(recipe.arguments[0], Recipe):
        recipe = recipe.arguments[0]
    return (
        recipe
        if recipe.function == "source" and shape == value.source_shape
        else reshape(recipe, shape)
    )


def regrouped(value: Value, groups: int) -> Value:
    """A transposed convolution's weight (in, out / groups, ...) as MLX keeps it: (out, ..., in / groups)."""
    inner, outer, *kernel = value.shape
    count = len(kernel)
    if groups == 1:
        return permuted(value, (1, *range(2, 2 + count), 0))
    split = reshaped(value, (groups, int(inner) // groups, outer, *kernel))
    turned = permuted(split, (0, 2, *range(3, 3 + count), 1))
    return reshaped(turned, (groups * int(outer), *kernel, int(inner) // groups))


def are_parameters(*values: Any) -> bool:
    """Whether each is a parameter or missing, and one is there."""
    present = [value for value in values if value is not None]
    return bool(present) and all(
        isinstance(value, Value) and value.is_parameter for value in present
    )
