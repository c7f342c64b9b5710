"""Attention in forms that mx.fast.scaled_dot_product_attention does not take."""

from __future__ import annotations

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
