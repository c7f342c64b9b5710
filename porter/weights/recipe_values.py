"""Computes recipes with MLX on the CPU: lazily, floating arithmetic in float32 or wider, rounded once at the end."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from porter.errors import InputError
from porter.weights.recipe_specs import bounds, flatten, promote, spec_of
from porter.weights.recipe_tree import Recipe
from porter.weights.tensors import DTYPES, Tensors, dtype_name, mlx_dtype, to_mlx


def evaluate(recipe: Recipe, tensors: Tensors, dtype: str | None = None) -> mx.array:
    """The tensor that the recipe describes, not yet computed; its sources are read now, each once.

    dtype: what to round the result to; None is the dtype that `spec_of` gives.
    Raises InputError when the recipe does not fit the tensors.
    """
    spec = spec_of(recipe, tensors)
    read: dict[str, mx.array] = {}
    with mx.stream(mx.cpu):
        result = _value(recipe, tensors, read)
        return result.astype(mlx_dtype(dtype or spec.dtype))


def _value(recipe: Recipe, tensors: Tensors, read: dict[str, mx.array]) -> mx.array:
    first = recipe.arguments[0]
    if recipe.function == "source":
        assert isinstance(first, str)
        if first not in read:
            read[first] = tensors.read(first)
        return read[first]
    if recipe.function == "concatenate":
        assert isinstance(first, tuple)
        parts = [_value(part, tensors, read) for part in first if isinstance(part, Recipe)]
        return mx.concatenate(parts, recipe.arguments[1])  # type: ignore[arg-type]
    operands = [_value(a, tensors, read) if isinstance(a, Recipe) else a for a in recipe.arguments]
    return VALUES[recipe.function](*operands)


def _arithmetic(
    function: Callable[..., mx.array], fractional: bool = False
) -> Callable[..., mx.array]:
    """`function` with its operands first brought to the dtype that it shall compute in."""

    def compute(*operands: mx.array | int | float) -> mx.array:
        dtype = promote(*(dtype_name(x.dtype) for x in operands if isinstance(x, mx.array)))
        whole = not DTYPES[dtype].floating and dtype != "complex64"
        fractions = fractional or any(isinstance(x, float) for x in operands)
        if dtype in ("float16", "bfloat16") or (whole and fractions):
            dtype = "float32"
        return function(*(_as(x, dtype) for x in operands))

    return compute


def _as(x: mx.array | int | float, dtype: str) -> mx.array:
    return x.astype(mlx_dtype(dtype)) if isinstance(x, mx.array) else _number(x, dtype)


def _number(value: float, dtype: str) -> mx.array:
    """A number as an array; float64 in between, so that nothing is rounded twice."""
    if DTYPES[dtype].floating or dtype == "complex64":
        wide = to_mlx(np.array(value, np.float64).view("u8"), "float64")
        return wide.astype(mlx_dtype(dtype))
    return _whole([value], dtype).reshape(())


def _whole(values: list[Any], dtype: str) -> mx.array:
    try:
        return to_mlx(np.array(values, "u1" if dtype == "bool" else DTYPES[dtype].raw), dtype)
    except (OverflowError, ValueError, TypeError) as error:
        raise InputError(f"a recipe's number does not fit {dtype} ({error}): correct it.") from None


def _along(x: mx.array, axis: int, part: builtins.slice) -> mx.array:
    at = axis % x.ndim
    return x[(builtins.slice(None),) * at + (part,)]


def _split(x: mx.array, sections: Any, axis: int, index: int) -> mx.array:
    return _along(x, axis, builtins.slice(*bounds(sections, index, x.shape[axis])))


def _take(x: mx.array, indices: tuple[int, ...], axis: int) -> mx.array:
    wanted = np.array([i % x.shape[axis] for i in indices], np.uint32)
    return mx.take(x, mx.array(wanted), axis)


def _constant(values: Any, shape: tuple[int, ...], dtype: str) -> mx.array:
    flat = flatten(values)
    if DTYPES[dtype].floating:
        wide = to_mlx(np.array(flat, np.float64).view("u8"), "float64")
        array = wide.astype(mlx_dtype(dtype))
    else:
        array = _whole(flat, dtype)
    return (
        array.reshape(shape)
        if isinstance(values, tuple)
        else mx.broadcast_to(array.reshape(()), shape)
    )


VALUES: dict[str, Callable[..., mx.array]] = {
    "permute": mx.transpose,
    "reshape": mx.reshape,
    "split": _split,
    "slice": lambda x, axis, start, stop: _along(x, axis, builtins.slice(start, stop)),
    "take": _take,
    "cast": lambda x, dtype: x.astype(mlx_dtype(dtype)),
    "from_fp8": lambda x: mx.from_fp8(x, mx.float32),
    "add": _arithmetic(mx.add),
    "subtract": _arithmetic(mx.subtract),
    "multiply": _arithmetic(mx.multiply),
    "divide": _arithmetic(mx.divide, fractional=True),
    "negative": _arithmetic(mx.negative),
    "sqrt": _arithmetic(mx.sqrt, fractional=True),
    "rsqrt": _arithmetic(mx.rsqrt, fractional=True),
    "exp": _arithmetic(mx.exp, fractional=True),
    "square": _arithmetic(mx.square),
    "maximum": _arithmetic(mx.maximum),
    "matmul": _arithmetic(mx.matmul, fractional=True),
    "sum": lambda x, axes, keepdims: _arithmetic(lambda y: mx.sum(y, axes, keepdims))(x),
    "mean": lambda x, axes, keepdims: _arithmetic(lambda y: mx.mean(y, axes, keepdims), True)(x),
    "constant": _constant,
}
