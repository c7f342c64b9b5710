"""Text from a ported model that encodes once, or reads pictures once, and decodes token by token."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from porter.errors import UsageError

Sampler = Callable[[mx.array], mx.array]


def generate(
    model: nn.Module,
    inputs: Mapping[str, mx.array],
    tokens: mx.array,
    *,
    max_tokens: int = 128,
    stop: Collection[int] = (),
    sampler: Sampler | None = None,
) -> mx.array:
    """The `tokens` (batch, length) that a decoder starts with, and up to `max_tokens` that follow, as (batch, length + n).

    `inputs` are the encoder's, by the names that porter.json has for them (`input_ids` and `attention_mask`, or
    `input_features`). A decoder that reads pictures in its text gets them beside the tokens, which have their placeholders:
    `{"pixel_values": ...}`. The likeliest token follows, or the one that `sampler` draws from log-probabilities (batch, words),
    as mlx_lm.sample_utils.make_sampler makes them. A row that came to a token of `stop` repeats it until all rows have.
    Raises UsageError for a model that has neither `encode` and `decode` nor a cache.
    """
    decode = _decoder(model, inputs)
    ends = mx.array(sorted(stop), dtype=tokens.dtype) if stop else None
    ended = mx.zeros((tokens.shape[0],), dtype=mx.bool_)
    step = tokens
    for _ in range(max_tokens):
        logits = decode(step)[:, -1].astype(mx.float32)
        chosen = mx.argmax(logits, axis=-1) if sampler is None else sampler(nn.log_softmax(logits))
        step = mx.where(ended, step[:, -1], chosen.astype(tokens.dtype))[:, None]
        tokens = mx.concatenate([tokens, step], axis=1)
        mx.async_eval(tokens)
        if ends is not None:
            ended = ended | (step == ends).any(axis=-1)
            if ended.all().item():
                break
    return tokens


def _decoder(model: Any, inputs: Mapping[str, mx.array]) -> Callable[[mx.array], mx.array]:
    """The logits of the next tokens, behind those that it was called with before."""
    if encodes(model):
        memory, others = encoded(model, inputs)
        cache = model.make_cache()
        return lambda step: model.decode(step, *memory, **others, cache=cache)
    if "cache" not in _parameters(model.__call__):
        raise UsageError(
            f"{type(model).__name__} has no cache to decode with; porter.json says why"
        )
    from mlx_lm.models.cache import make_prompt_cache

    state, given = make_prompt_cache(model), dict(inputs)

    def decode(step: mx.array) -> mx.array:
        now = dict(given)
        given.clear()  # pictures come with the tokens that stand for them
        logits: mx.array = model(step, **now, cache=state)
        return logits

    return decode


def encodes(model: nn.Module) -> bool:
    """Whether the port is an encoder and a decoder with a cache."""
    return callable(getattr(model, "encode", None)) and callable(getattr(model, "decode", None))


def encoded(
    model: Any, inputs: Mapping[str, mx.array]
) -> tuple[tuple[mx.array, ...], dict[str, mx.array]]:
    """What `encode` hands over, and the inputs that `decode` reads beside it (a padding mask)."""
    result = model.encode(*(inputs[name] for name in _parameters(model.encode)))
    memory = result if isinstance(result, tuple) else (result,)
    beside = _parameters(model.decode)[1 + len(memory) :]
    return memory, {name: inputs[name] for name in beside if name != "cache"}


def _parameters(method: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(method).parameters)
