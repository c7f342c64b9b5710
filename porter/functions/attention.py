"""Attention in forms that mx.fast.scaled_dot_product_attention does not take."""

from __future__ import annotations

from typing import Any

import mlx.core as mx


def soft_capped_attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    scale: float,
    cap: float,
    mask: mx.array | None = None,
) -> mx.array:
    """Attention whose scores are cap * tanh(scores / cap), with grouped heads; the mask is boolean or added (Gemma 2)."""
    batch, heads, length, dims = q.shape
    q = q.reshape(batch, k.shape[1], -1, length, dims)
    scores = cap * mx.tanh(q @ k[:, :, None].swapaxes(-1, -2) * (scale / cap))
    if mask is not None:
        mask = mask[:, :, None] if mask.ndim == 4 else mask
        lowest = mx.finfo(scores.dtype).min  # not -inf: a row of padding may see no key at all
        hidden = mask.dtype == mx.bool_
        scores = mx.where(mask, scores, lowest) if hidden else scores + mask
    weights = mx.softmax(scores, axis=-1, precise=True)
    return (weights @ v[:, :, None]).reshape(batch, heads, length, -1)


def biased_mask(mask: mx.array | None, bias: mx.array, x: mx.array) -> mx.array:
    """What is added to the scores of attention on x: the bias, and almost nothing of the keys that the mask hides."""
    bias = bias.astype(x.dtype)
    return bias if mask is None else mx.where(mask, bias, mx.finfo(x.dtype).min)


def chunked_mask(mask: mx.array | None, offset: Any, length: int, chunk: int) -> mx.array:
    """The mask where queries see keys of their own chunk of positions alone; `offset` tokens stand before the queries."""
    keys = offset + length if mask is None else mask.shape[-1]
    last = mx.array(offset).reshape(-1, 1) + (length - 1)
    chunks = (last + mx.arange(1 - keys, 1))[:, None, None] // chunk
    same = chunks[..., -length:].swapaxes(-1, -2) == chunks
    return same if mask is None else mask & same


def narrowed_mask(mask: mx.array | None, kept: mx.array) -> mx.array:
    """The keys that the mask shows and that are kept."""
    return kept if mask is None else mask & kept


def widened_mask(mask: mx.array, shown: mx.array) -> mx.array:
    """The mask, and what is `shown` (..., L, L) among its last L tokens, but for padding: keys that no token sees."""
    before = mask.shape[-1] - shown.shape[-1]
    shown = mx.pad(shown, [(0, 0)] * (shown.ndim - 1) + [(before, 0)])
    return mask | (shown & mask.any(axis=-2, keepdims=True))


def masked(x: mx.array, mask: mx.array | None, fill: Any) -> mx.array:
    """x (B, ..., L, K) of queries and keys, with `fill` for the keys that the mask hides."""
    if mask is None:
        return x
    if mask.ndim == 4:  # of a batch
        mask = mask.reshape(len(mask), *[1] * (x.ndim - 3), *mask.shape[-2:])
    return mx.where(mask, x, fill)


def all_tokens(x: mx.array, cache: Any = None) -> mx.array:
    """x (B, H, L, D) of all tokens so far; what a cache keeps beside keys is of no use here."""
    if cache is None:
        return x
    kept, beside = cache.update_and_fetch(x, x[..., :1])
    return mx.depends(kept, [beside])  # which would be left undone for ever
