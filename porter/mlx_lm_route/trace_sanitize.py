"""mlx-lm's `sanitize` as recipes: it runs once on placeholders, and MLX's own record of what it did is read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import mlx.core as mx
import numpy as np

from porter.errors import UnsupportedError
from porter.weights import recipes
from porter.weights.recipes import Recipe
from porter.weights.tensors import DTYPES, Tensors, dtype_name, mlx_dtype

#: The largest constant that a recipe spells out, in elements.
MOST_CONSTANT = 4096
Sanitize = Callable[[dict[str, mx.array]], Mapping[str, mx.array]]


def trace_sanitize(sanitize: Sanitize | None, tensors: Tensors) -> dict[str, Recipe]:
    """What `sanitize` makes of the checkpoint: MLX path -> recipe over its keys. No weight is read.

    Raises UnsupportedError where it fails, or computes what no recipe can say.
    """
    names: list[str] = []

    def run(**weights: mx.array) -> list[mx.array]:
        made = sanitize(dict(weights)) if sanitize is not None else weights
        names[:] = made
        return list(made.values())

    trace = _Trace()
    placeholders = {}
    for key in tensors.keys():  # noqa: SIM118 (Tensors is no dict)
        spec = tensors.spec(key)
        placeholders[key] = mx.zeros(spec.shape, mlx_dtype(DTYPES[spec.dtype].mlx))
    try:
        with _contiguous_as_it_is():
            mx.export_function(trace.record, run, **placeholders)  # type: ignore[arg-type]
    except UnsupportedError:
        raise
    except Exception as error:
        raise UnsupportedError(
            f"mlx-lm's sanitize does not take this checkpoint ({type(error).__name__}: {error})."
        ) from error
    return dict(zip(names, trace.outputs(), strict=True))


@contextlib.contextmanager
def _contiguous_as_it_is() -> Iterator[None]:
    """Without mx.contiguous, of which MLX keeps no record; the writer stores every tensor row by row anyway."""
    own = mx.contiguous
    mx.contiguous = lambda a, *_, **__: a
    try:
        yield
    finally:
        mx.contiguous = own


class _Trace:
    """Collects MLX's messages about one function: its inputs, constants, primitives and outputs."""

    def __init__(self) -> None:
        self._recipes: dict[str, Recipe] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._outputs: list[str] = []

    def record(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "inputs":
                self._shapes |= {name: tuple(shape) for name, shape, _ in message["inputs"]}
            case "keyword_inputs":
                self._recipes |= {name: recipes.source(key) for key, name in message["keywords"]}
            case "outputs":
                self._outputs = [name for name, _, _ in message["outputs"]]
            case "constants":
                for name, value in message["constants"]:
                    self._recipes[name], self._shapes[name] = _constant(value), tuple(value.shape)
            case "primitive":
                self._primitive(message)

    def outputs(self) -> Iterable[Recipe]:
        return [self._recipes[name] for name in self._outputs]

    def _primitive(self, message: dict[str, Any]) -> None:
        rule = PRIMITIVES.get(message["name"])
        if rule is None:
            raise UnsupportedError(
                f"mlx-lm's sanitize computes {message['name']}, which porter's recipes do not have."
            )
        inputs = [self._recipes[name] for name, _, _ in message["inputs"]]
        shapes = [self._shapes[name] for name, _, _ in message["inputs"]]
        made = [tuple(shape) for _, shape, _ in message["outputs"]]
        results = rule(inputs, shapes, made, message["arguments"])
        for (name, shape, _), result in zip(message["outputs"], results, strict=True):
            self._recipes[name], self._shapes[name] = result, tuple(shape)


def _constant(value: mx.array) -> Recipe:
    if value.size > MOST_CONSTANT:
        raise UnsupportedError(
            f"mlx-lm's sanitize holds a constant of {value.size} numbers, which no recipe spells out."
        )
    wide = value.astype(mx.float32) if value.dtype in (mx.float16, mx.bfloat16) else value
    return recipes.constant(np.array(wide).tolist(), value.shape, dtype_name(value.dtype))


Shape = tuple[int, ...]
Rule = Callable[[list[Recipe], list[Shape], list[Shape], list[Any]], list[Recipe]]


def _reshape(
    inputs: list[Recipe], shapes: list[Shape], made: list[Shape], _: list[Any]
) -> list[Recipe]:
    return [inputs[0] if shapes[0] == made[0] else recipes.reshape(inputs[0], made[0])]


def _slice(
    inputs: list[Recipe], shapes: list[Shape], made: list[Shape], how: list[Any]
) -> list[Recipe]:
    result = inputs[0]
    for axis, (start, stop, stride) in enumerate(zip(*how, strict=True)):
        length = shapes[0][axis]
        if stride != 1:
            result = recipes.take(result, range(start, stop, stride), axis)
        elif (start, stop) != (0, length):
            result = recipes.slice(result, axis, start, None if stop == length else stop)
    return [result]


def _gather(
    inputs: list[Recipe], shapes: list[Shape], made: list[Shape], how: list[Any]
) -> list[Recipe]:
    """One entry along one axis: x[0]."""
    where, axes = inputs[1] if len(inputs) == 2 else None, how[0]
    if where is None or where.function != "constant" or shapes[1] or len(axes) != 1:
        raise UnsupportedError(
            "mlx-lm's sanitize picks entries, which porter's recipes do not have."
        )
    start = int(where.arguments[0])  # type: ignore[arg-type]
    return [recipes.reshape(recipes.slice(inputs[0], axes[0], start, start + 1), made[0])]


def _split(
    inputs: list[Recipe], shapes: list[Shape], made: list[Shape], how: list[Any]
) -> list[Recipe]:
    cuts, axis = how
    return [recipes.split(inputs[0], list(cuts), axis, index) for index in range(len(made))]


def _broadcast(
    inputs: list[Recipe], shapes: list[Shape], made: list[Shape], _: list[Any]
) -> list[Recipe]:
    """A number everywhere, or what arithmetic widens by itself."""
    x = inputs[0]
    if x.function == "constant" and not shapes[0]:
        return [recipes.constant(x.arguments[0], made[0], str(x.arguments[2]))]
    return [x if shapes[0] == made[0] else recipes.add(x, recipes.constant(0, made[0]))]


def _arithmetic(function: Callable[..., Recipe]) -> Rule:
    def rule(inputs: list[Recipe], *_: Any) -> list[Recipe]:
        return [function(*map(_number, inputs))]

    return rule


def _number(x: Recipe) -> Recipe | int | float:
    """A number for a constant that is one everywhere."""
    value = x.arguments[0]
    alike = x.function == "constant" and type(value) in (int, float)
    return value if alike else x  # type: ignore[return-value]


def _same(inputs: list[Recipe], *_: Any) -> list[Recipe]:
    return inputs[:1]


def _sqrt(inputs: list[Recipe], _: Any, __: Any, how: list[Any]) -> list[Recipe]:
    return [recipes.rsqrt(inputs[0]) if how and how[0] else recipes.sqrt(inputs[0])]


PRIMITIVES: dict[str, Rule] = {
    "ExpandDims": _reshape,
    "Squeeze": _reshape,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Unflatten": _reshape,
    "Transpose": lambda x, _, __, how: [recipes.permute(x[0], how[0])],
    "Concatenate": lambda x, _, __, how: [recipes.concatenate(x, how[0])],
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "AsType": lambda x, _, __, how: [recipes.cast(x[0], dtype_name(how[0]))],
    "Broadcast": _broadcast,
    "Full": _same,
    "Contiguous": _same,
    "Copy": _same,
    "StopGradient": _same,
    "Add": _arithmetic(recipes.add),
    "Subtract": _arithmetic(recipes.subtract),
    "Multiply": _arithmetic(recipes.multiply),
    "Divide": _arithmetic(recipes.divide),
    "Negative": _arithmetic(recipes.negative),
    "Exp": _arithmetic(recipes.exp),
    "Sqrt": _sqrt,
}
