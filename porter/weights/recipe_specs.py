"""The dtype and shape of a recipe's result, from those of its sources; no data is read.

dtype: what MLX would give for the same functions on the sources as they are stored, so bfloat16 weights stay bfloat16
though their arithmetic is done in float32.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from porter.errors import InputError
from porter.weights.recipe_tree import Recipe
from porter.weights.tensors import DTYPES, LONGEST_AXIS, Tensors, TensorSpec, dtype_name, mlx_dtype

MOST_CONSTANT = 2**31  # elements


def spec_of(recipe: Recipe, tensors: Tensors) -> TensorSpec:
    """dtype and shape of the result; InputError when the recipe does not fit the tensors."""
    try:
        return _spec(recipe, tensors)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"the recipe {str(recipe)[:160]} does not fit the checkpoint ({error}): "
            "correct the mapping, or use it with the checkpoint that it was made for."
        ) from None


def shape_of(recipe: Recipe, tensors: Tensors) -> tuple[int, ...]:
    """The shape of the result; InputError when the recipe does not fit the tensors."""
    return spec_of(recipe, tensors).shape


def promote(*dtypes: str) -> str:
    """MLX's common dtype, as bfloat16 and float16 give float32."""
    result = mx.zeros(0, mlx_dtype(dtypes[0]))
    for dtype in dtypes[1:]:
        result = mx.add(result, mx.zeros(0, mlx_dtype(dtype)), stream=mx.cpu)
    return dtype_name(result.dtype)


def bounds(sections: int | tuple[int, ...], index: int, length: int) -> tuple[int, int]:
    """Start and stop of part `index` of an axis; ValueError when there is no such part."""
    if isinstance(sections, int):
        if sections < 1 or length % sections:
            raise ValueError(f"an axis of {length} has no {sections} equal parts")
        edges = [*range(0, length, length // sections), length] if length else [0] * (sections + 1)
    else:
        edges = [0, *sections, length]
    if sorted(edges) != edges or not 0 <= index < len(edges) - 1:
        raise ValueError(f"there is no part {index} of an axis of {length} cut at {edges}")
    return edges[index], edges[index + 1]


def _spec(recipe: Recipe, tensors: Tensors) -> TensorSpec:
    if recipe.function == "source":
        return _source(recipe.arguments[0], tensors)
    operands = [_operand(argument, tensors) for argument in recipe.arguments]
    return SPECS[recipe.function](*operands)


def _operand(argument: Any, tensors: Tensors) -> Any:
    """An argument with its recipes replaced by what they give."""
    if isinstance(argument, Recipe):
        return _spec(argument, tensors)
    if isinstance(argument, tuple) and any(isinstance(part, Recipe) for part in argument):
        return [_spec(part, tensors) for part in argument]
    return argument


def _source(key: Any, tensors: Tensors) -> TensorSpec:
    spec = tensors.spec(key)
    if not DTYPES[spec.dtype].mlx:
        raise ValueError(f"{key!r} is {spec.dtype}, which MLX does not have")
    return TensorSpec(DTYPES[spec.dtype].mlx, spec.shape)


def _axis(spec: TensorSpec, axis: int) -> int:
    if not -len(spec.shape) <= axis < len(spec.shape):
        raise ValueError(f"there is no axis {axis} in the shape {list(spec.shape)}")
    return axis % len(spec.shape)


def _with_axis(spec: TensorSpec, axis: int, length: int) -> TensorSpec:
    at = _axis(spec, axis)
    return TensorSpec(spec.dtype, (*spec.shape[:at], length, *spec.shape[at + 1 :]))


def _permute(x: TensorSpec, axes: tuple[int, ...]) -> TensorSpec:
    if sorted(axes) != list(range(len(x.shape))):
        raise ValueError(f"{list(axes)} does not order the axes of {list(x.shape)}")
    return TensorSpec(x.dtype, tuple(x.shape[a] for a in axes))


def _reshape(x: TensorSpec, shape: tuple[int, ...]) -> TensorSpec:
    known = math.prod(n for n in shape if n != -1)
    if shape.count(-1) == 1 and known > 0 and x.size % known == 0:
        shape = tuple(x.size // known if n == -1 else n for n in shape)
    if any(n < 0 for n in shape) or math.prod(shape) != x.size:
        raise ValueError(f"{list(x.shape)} cannot become {list(shape)}")
    return TensorSpec(x.dtype, shape)


def _concatenate(parts: Sequence[TensorSpec], axis: int) -> TensorSpec:
    if not parts:
        raise ValueError("there is nothing to concatenate")
    first, at = parts[0], _axis(parts[0], axis)
    for part in parts:
        if (
            len(part.shape) != len(first.shape)
            or _with_axis(part, at, 0).shape != _with_axis(first, at, 0).shape
        ):
            raise ValueError(
                f"{list(first.shape)} and {list(part.shape)} do not join on axis {axis}"
            )
    dtype = promote(*(part.dtype for part in parts))
    return TensorSpec(dtype, _with_axis(first, at, sum(part.shape[at] for part in parts)).shape)


def _split(x: TensorSpec, sections: Any, axis: int, index: int) -> TensorSpec:
    start, stop = bounds(sections, index, x.shape[_axis(x, axis)])
    return _with_axis(x, axis, stop - start)


def _slice(x: TensorSpec, axis: int, start: int | None, stop: int | None) -> TensorSpec:
    length = x.shape[_axis(x, axis)]
    return _with_axis(x, axis, len(range(length)[builtins.slice(start, stop)]))


def _take(x: TensorSpec, indices: tuple[int, ...], axis: int) -> TensorSpec:
    length = x.shape[_axis(x, axis)]
    if any(not -length <= i < length for i in indices):
        raise ValueError(f"an index lies outside an axis of {length}")
    return _with_axis(x, axis, len(indices))


def _arithmetic(x: TensorSpec | int | float, y: TensorSpec | int | float) -> TensorSpec:
    both = [v for v in (x, y) if isinstance(v, TensorSpec)]
    if not both:
        raise ValueError("it computes with two numbers and no tensor")
    dtype = promote(*(v.dtype for v in both))
    if isinstance(x, float) or isinstance(y, float):
        dtype = _float(TensorSpec(dtype, ())).dtype
    return TensorSpec(dtype, np.broadcast_shapes(*(v.shape for v in both)))


def _float(x: TensorSpec) -> TensorSpec:
    """x when its dtype has fractions, else float32."""
    fractional = DTYPES[x.dtype].floating or x.dtype == "complex64"
    return x if fractional else TensorSpec("float32", x.shape)


def _negative(x: TensorSpec) -> TensorSpec:
    if x.dtype == "bool":
        raise ValueError("a bool has no negative")
    return x


def _square(x: TensorSpec) -> TensorSpec:
    if x.dtype == "bool":
        raise ValueError("a bool has no square")
    return x


def _reduced(x: TensorSpec, axes: tuple[int, ...], keepdims: bool) -> TensorSpec:
    gone = {_axis(x, axis) for axis in axes}
    if len(gone) != len(axes):
        raise ValueError(f"{list(axes)} names an axis of {list(x.shape)} twice")
    if keepdims:
        return TensorSpec(x.dtype, tuple(1 if a in gone else n for a, n in enumerate(x.shape)))
    return TensorSpec(x.dtype, tuple(n for a, n in enumerate(x.shape) if a not in gone))


def _sum(x: TensorSpec, axes: tuple[int, ...], keepdims: bool) -> TensorSpec:
    if x.dtype == "bool" or (not DTYPES[x.dtype].floating and x.dtype != "complex64"):
        raise ValueError(f"a recipe sums fractions, not {x.dtype}")
    return _reduced(x, axes, keepdims)


def _matmul(x: TensorSpec, y: TensorSpec) -> TensorSpec:
    dtype = promote(x.dtype, y.dtype)
    if not DTYPES[dtype].floating:
        raise ValueError(f"a recipe multiplies matrices of fractions, not of {dtype}")
    product = mx.matmul(mx.zeros(x.shape), mx.zeros(y.shape), stream=mx.cpu)  # not computed
    return TensorSpec(dtype, tuple(product.shape))


def _from_fp8(x: TensorSpec) -> TensorSpec:
    if x.dtype != "uint8":
        raise ValueError(f"float8 codes are uint8, not {x.dtype}")
    return TensorSpec("float32", x.shape)


def _constant(values: Any, shape: tuple[int, ...], dtype: str) -> TensorSpec:
    if dtype not in DTYPES or DTYPES[dtype].mlx != dtype or dtype == "complex64":
        raise ValueError(f"a constant cannot be {dtype}")
    if any(not 0 <= n < LONGEST_AXIS for n in shape) or math.prod(shape) >= MOST_CONSTANT:
        raise ValueError(f"a constant cannot have the shape {list(shape)}")
    if isinstance(values, tuple) and len(flatten(values)) != math.prod(shape):
        raise ValueError(f"{len(flatten(values))} values do not fill the shape {list(shape)}")
    return TensorSpec(dtype, shape)


def flatten(values: Any) -> list[Any]:
    """Nested tuples of numbers as one list, in row-major order."""
    if not isinstance(values, tuple):
        return [values]
    return [item for value in values for item in flatten(value)]


SPECS: dict[str, Callable[..., TensorSpec]] = {
    "permute": _permute,
    "reshape": _reshape,
    "concatenate": _concatenate,
    "split": _split,
    "slice": _slice,
    "take": _take,
    "cast": lambda x, dtype: TensorSpec(dtype, x.shape),
    "from_fp8": _from_fp8,
    "add": _arithmetic,
    "subtract": _arithmetic,
    "multiply": _arithmetic,
    "divide": lambda x, y: _float(_arithmetic(x, y)),
    "negative": _negative,
    "sqrt": _float,
    "rsqrt": _float,
    "exp": _float,
    "square": _square,
    "maximum": _arithmetic,
    "matmul": _matmul,
    "sum": _sum,
    "mean": lambda x, axes, keepdims: _float(_reduced(x, axes, keepdims)),
    "constant": _constant,
}
