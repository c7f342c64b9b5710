"""Whether mlx-lm can have a source, and what it is given: the file, its config, and a recipe for every tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from porter.errors import InputError, UnsupportedError
from porter.mlx_lm_route.complete_config import complete_config, spellings, undetermined
from porter.mlx_lm_route.file_model import args_of, build
from porter.mlx_lm_route.trace_sanitize import trace_sanitize
from porter.sources import Source
from porter.weights.recipes import Recipe, shape_of, sources
from porter.weights.tensors import Tensors
from porter.weights.writer import listed

#: How many configs are tried until one fits the checkpoint's shapes.
MOST_TRIED = 64


@dataclass(frozen=True, slots=True)
class Handover:
    """What mlx-lm's file `file` (mlx_lm.models.qwen2) gets.

    config: config.json as it expects it. recipes: its parameters over the checkpoint's tensors. model: built from the
    config, its arrays not computed. dropped: checkpoint keys that no recipe reads.
    """

    file: str
    config: dict[str, Any]
    recipes: dict[str, Recipe]
    model: nn.Module
    tensors: Tensors
    dropped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """The route and why; `handover` is None for the graph route."""

    handover: Handover | None
    reason: str


def choose_route(source: Source, route: str) -> Choice:
    """`route` is "auto", "graph" or "mlx-lm". Raises UnsupportedError where "mlx-lm" can't be had. Reads no weight."""
    if route == "graph" or (route == "auto" and not is_decoder(source)):
        return Choice(None, "")
    try:
        handover = plan_handover(source)
    except UnsupportedError as error:
        if route == "mlx-lm":
            raise
        return Choice(None, f"route graph: {error}")
    count = len(handover.recipes)
    return Choice(
        handover, f"route mlx-lm: {handover.file} has a place for each of its {count} tensors"
    )


def is_decoder(source: Source) -> bool:
    """Whether the source turns token ids into the logits of the next one, as mlx-lm's models do."""
    module: Any = source.module
    if source.kind != "huggingface" or source.config is None or module is None:
        return False
    generates = getattr(module, "can_generate", lambda: False)()
    return bool(generates) and not getattr(module.config, "is_encoder_decoder", False)


def plan_handover(source: Source) -> Handover:
    """Raises UnsupportedError with the reason where mlx-lm has no file that takes the source. Reads no weight."""
    if not is_decoder(source):
        raise UnsupportedError(
            f"{source.name} is no decoder of a Hugging Face folder with a language model's head."
        )
    assert source.config is not None
    module: Any = source.module
    if source.config.get("quantization_config"):
        raise UnsupportedError(
            f"{source.spec} is quantized, and the route to mlx-lm takes dense checkpoints."
        )
    if others := sorted(source.kwargs.keys() - {"input_ids"}):
        raise UnsupportedError(f"mlx-lm's files take token ids alone, and not {', '.join(others)}.")
    tensors = source.stored or source.tensors
    args = args_of(source.config)
    completed = complete_config(source.config, module.config, args_of, module)
    reasons = []
    for config in islice(_candidates(completed, args), MOST_TRIED):
        try:
            model = build(config)
            table = trace_sanitize(getattr(model, "sanitize", None), tensors)
            _check_fit(model, table, tensors)
            _check_runs(model)
        except UnsupportedError as error:
            reasons.append(str(error))
            continue
        read = {key for recipe in table.values() for key in sources(recipe)}
        dropped = tuple(key for key in tensors.keys() if key not in read)  # noqa: SIM118
        return Handover(args.__module__, config, table, model, tensors, dropped)
    raise UnsupportedError(f"{args.__module__} does not take it: {reasons[0]}")


def _candidates(config: dict[str, Any], args: Any) -> Iterator[dict[str, Any]]:
    """The configs to try: fields that nothing determines take each value that they may have; the shapes decide."""
    for spelled in spellings(config):
        unknown = undetermined(spelled, args)
        if any(not values for values in unknown.values()):
            yield spelled  # it fails, and says what it lacks
            continue
        for values in product(*unknown.values()):
            yield {**spelled, **dict(zip(unknown, values, strict=True))}


def _check_fit(model: nn.Module, table: Mapping[str, Recipe], tensors: Tensors) -> None:
    """Every parameter is filled, in its shape, and nothing is left over."""
    built = {path: tuple(value.shape) for path, value in tree_flatten(model.parameters())}
    if missing := sorted(built.keys() - table.keys()):
        raise UnsupportedError(
            f"{len(missing)} of its parameters have no tensor in the checkpoint ({listed(missing, 3)})."
        )
    if extra := sorted(table.keys() - built.keys()):
        raise UnsupportedError(
            f"it has no place for {len(extra)} tensors of the checkpoint ({listed(extra, 3)})."
        )
    for path, shape in built.items():
        try:
            found = shape_of(table[path], tensors)
        except InputError as error:
            raise UnsupportedError(str(error)) from error
        if found != shape:
            raise UnsupportedError(
                f"its parameter {path} is {list(shape)}, and the checkpoint gives {list(found)}."
            )


def _check_runs(model: nn.Module) -> None:
    """A call, which MLX builds and nobody evaluates."""
    try:
        model(mx.zeros((1, 4), mx.int32))
    except Exception as error:
        raise UnsupportedError(
            f"its call fails ({type(error).__name__}: {error}), in this configuration."
        ) from error
