"""What a decoder must do with a cache, judged against its own forward over the whole text."""

from __future__ import annotations

import inspect
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from porter.generate import encoded
from porter.validate.metrics import Array, error

#: Tokens after the prompt that come one by one.
STEPS = 12
#: The longest text that is decoded to get past a window.
LONGEST = 640
PADDING = 3
#: A text whose earlier logits change by more than this with the words behind it is a prefix.
LOOKS_AHEAD = 1e-2


def takes_cache(model: nn.Module) -> bool:
    """Whether the forward has the argument `cache`, as mlx-lm's models do."""
    return "cache" in inspect.signature(type(model).__call__).parameters


def decoded(model: nn.Module, inputs: list[mx.array]) -> dict[str, Any]:
    """Logits of a text that comes in pieces, then token by token, against those of the whole text at once.

    The text is the given one, repeated until it is longer than the windows of the cache where they are not too long for that.
    """
    from mlx_lm.models.cache import make_prompt_cache

    windows = [c.max_size for c in make_prompt_cache(model) if hasattr(c, "max_size")]
    length = max(inputs[0].shape[1], min(max(windows, default=0) + STEPS, LONGEST))
    ids = mx.concatenate([inputs[0]] * (length // inputs[0].shape[1] + 1), axis=1)[:, :length]
    whole = model(ids)
    prompt = max(length - STEPS, 2)
    worst = 0.0
    for pieces in ([prompt], [1], [prompt // 2, prompt - prompt // 2]):
        state, start, found = make_prompt_cache(model), 0, []
        for size in [*pieces, *[1] * STEPS]:
            found.append(model(ids[:, start : start + size], cache=state))
            start += size
            if start >= length:
                break
        worst = max(worst, _gap(mx.concatenate(found, axis=1), whole[:, :start]))
    if len(inputs) > 1:
        worst = max(worst, _pictured(model, inputs))
    return {"gaps": [worst]}


def _pictured(model: nn.Module, inputs: list[mx.array]) -> float:
    """The last words behind a text with its pictures, one by one, against the whole text with its pictures.

    Where the words of such a text see those that follow (a prefix), against the words at once behind the same prefix.
    """
    from mlx_lm.models.cache import make_prompt_cache

    ids, *pictures = inputs
    start = ids.shape[1] - PADDING
    prompt, whole = model(ids[:, :start], *pictures), model(ids, *pictures)
    if _gap(prompt, whole[:, :start]) > LOOKS_AHEAD:
        state = make_prompt_cache(model)
        model(ids[:, :start], *pictures, cache=state)
        whole = mx.concatenate([prompt, model(ids[:, start:], cache=state)], axis=1)
    state = make_prompt_cache(model)
    found = [model(ids[:, :start], *pictures, cache=state)]
    found += [model(ids[:, i : i + 1], cache=state) for i in range(start, ids.shape[1])]
    return _gap(mx.concatenate(found, axis=1), whole)


def padded(model: nn.Module, inputs: list[mx.array]) -> dict[str, Any] | None:
    """The logits of a shorter text, padded at the left in a batch, against those of the text alone; a step further too.

    None where mlx-lm has no batched form of one of the caches.
    """
    from mlx_lm.models import cache as caches

    batched = [_batched(own) for own in caches.make_prompt_cache(model)]
    if None in batched:
        return None
    row = inputs[0][:1]
    if row.shape[1] <= PADDING:
        return None
    short = row[:, :-PADDING]
    both = mx.concatenate([row, mx.concatenate([row[:, :PADDING], short], axis=1)])
    alone = caches.make_prompt_cache(model)
    first = _gap(model(both, cache=batched)[1:, PADDING:], model(short, cache=alone))
    step = row[:, -1:]
    again = model(mx.concatenate([step, step]), cache=batched)[1:]
    return {"gaps": [max(first, _gap(again, model(step, cache=alone)))]}


def decoded_after(model: nn.Module, inputs: list[mx.array]) -> dict[str, Any]:
    """Logits of an encoder and decoder's text in pieces, then token by token, against those of the whole text at once."""
    names = list(inspect.signature(type(model).__call__).parameters)[1:]
    named = dict(zip(names, inputs, strict=True))
    memory, others = encoded(model, named)
    ids = named[next(iter(inspect.signature(model.decode).parameters))]
    whole = model.decode(ids, *memory, **others)
    worst = 0.0
    for first in (1, ids.shape[1] // 2):
        state, start, found = model.make_cache(), 0, []
        for size in [first] + [1] * (ids.shape[1] - first):
            step = ids[:, start : start + size]
            found.append(model.decode(step, *memory, **others, cache=state))
            start += size
        worst = max(worst, _gap(mx.concatenate(found, axis=1), whole))
    return {"gaps": [worst]}


def _batched(own: Any) -> Any:
    """The batched form of a fresh cache, for a row without and a row with padding at the left; None where there is none."""
    from mlx_lm.models import cache as caches

    padding = [0, PADDING]
    if type(own) is caches.KVCache:
        return caches.BatchKVCache(padding)
    if type(own) is caches.RotatingKVCache:
        return caches.BatchRotatingKVCache(own.max_size, padding)
    if type(own) is caches.ArraysCache:
        return caches.ArraysCache(len(own.cache), padding)
    if type(own) is caches.CacheList:
        parts = [_batched(part) for part in own.caches]
        return None if None in parts else caches.CacheList(*parts)
    return None


def _gap(z: mx.array, y: mx.array) -> float:
    return error(_wide(z), _wide(y).astype(np.float64))


def _wide(value: mx.array) -> Array:
    return np.array(value.astype(mx.float32))
