"""Layers that carry a state from token to token: what the tokens before left is read from a cache, and left there again.

`cache` is one layer's ArraysCache of mlx-lm, or None; `slot` is the array of it; `mask` (B, L) is false for padding.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.gated_delta import (
    gated_delta_kernel,
    gated_delta_ops,
    gated_delta_update,
    normalize_qk,
)
from mlx_lm.models.ssm import ssm_update


def with_past(
    x: mx.array,
    weight: mx.array,
    cache: Any = None,
    mask: mx.array | None = None,
    slot: int = 0,
    more: int = 0,
) -> mx.array:
    """x (B, L, D) behind the tokens before it that a causal convolution by weight (D, K, 1) looks back on.

    A convolution after that one looks back on `more`.
    """
    size = weight.shape[1] - 1 + more
    if mask is not None:
        x = mx.where(mask[..., None], x, 0)
    past = cache[slot] if cache is not None else None
    if past is None:
        past = mx.zeros((x.shape[0], size, x.shape[2]), x.dtype)
    x = mx.concatenate([past, x], axis=1)
    if cache is not None and cache.lengths is not None:  # texts that are padded at the right
        ends = mx.clip(cache.lengths, 0, x.shape[1] - size)
        cache[slot] = mx.take_along_axis(x, (ends[:, None] + mx.arange(size))[..., None], axis=1)
    elif cache is not None:
        cache[slot] = mx.contiguous(x[:, x.shape[1] - size :])
    return x


def state_space(
    x: mx.array,
    dt: mx.array,
    a_log: mx.array,
    b: mx.array,
    c: mx.array,
    d: mx.array,
    dt_bias: mx.array,
    time_step_limit: tuple[float, float],
    cache: Any = None,
    mask: mx.array | None = None,
    slot: int = 1,
) -> mx.array:
    """Mamba 2 (Dao and Gu 2024): x (B, L, H, P), dt (B, L, H), b and c (B, L, G, N); a_log, d and dt_bias (H,)."""
    state, lengths = (None, None) if cache is None else (cache[slot], cache.lengths)
    y, state = ssm_update(x, a_log, b, c, d, dt, dt_bias, state, time_step_limit, mask, lengths)
    if cache is not None:
        cache[slot] = state
    return y


def selective_scan(
    x: mx.array,
    dt: mx.array,
    a_log: mx.array,
    b: mx.array,
    c: mx.array,
    d: mx.array,
    cache: Any = None,
    mask: mx.array | None = None,
    slot: int = 1,
) -> mx.array:
    """Mamba (Gu and Dao 2023): x and dt (B, L, D), a_log (D, N), b and c (B, L, N), d (D,)."""
    state = cache[slot] if cache is not None else None
    a = -mx.exp(a_log.astype(mx.float32))
    step = nn.softplus(dt)
    if mask is not None:
        step = mx.where(mask[..., None], step, 0)
    outputs = []
    for start in range(0, x.shape[1], 64):  # so many tokens at once, for the sake of memory
        part = slice(start, start + 64)
        added = (step * x)[:, part, :, None] * b[:, part, None]
        states = scan_tokens(mx.exp(step[:, part, :, None] * a), added, state)
        outputs.append((states @ c[:, part, :, None]).squeeze(-1))
        state = states[:, -1]
    if cache is not None:
        cache[slot] = state
    return mx.concatenate(outputs, axis=1).astype(x.dtype) + d * x


def gated_scan(
    x: mx.array,
    decay: mx.array,
    cache: Any = None,
    mask: mx.array | None = None,
    slot: int = 1,
) -> mx.array:
    """The state h = decay * h + x after each token, of x and decay (B, L, D)."""
    if mask is not None:
        x, decay = mx.where(mask[..., None], x, 0), mx.where(mask[..., None], decay, 1)
    states = scan_tokens(decay, x, cache[slot] if cache is not None else None)
    if cache is not None:
        cache[slot] = states[:, -1]
    return states


def scan_tokens(decay: mx.array, added: mx.array, state: mx.array | None = None) -> mx.array:
    """All states h = decay * h + added along axis 1, in as many steps as doublings reach the number of tokens."""
    if state is not None:
        first = added[:, :1] + decay[:, :1] * state[:, None]
        added = mx.concatenate([first, added[:, 1:]], axis=1)
    size = 1
    while size < added.shape[1]:
        later = added[:, size:] + decay[:, size:] * added[:, :-size]
        added = mx.concatenate([added[:, :size], later], axis=1)
        decay = mx.concatenate([decay[:, :size], decay[:, size:] * decay[:, :-size]], axis=1)
        size *= 2
    return added


def gated_delta(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    a: mx.array,
    b: mx.array,
    a_log: mx.array,
    dt_bias: mx.array,
    eps: float,
    allow_neg_eigval: bool,
    cache: Any = None,
    mask: mx.array | None = None,
    slot: int = 1,
) -> mx.array:
    """Gated delta net (Yang et al. 2024): q and k (B, L, G, D), v (B, L, H, P), a and b (B, L, H), a_log and dt_bias (H,)."""
    q, k = normalize_qk(q, k, inv_scale=q.shape[-1] ** -0.5, eps=eps)
    state = cache[slot] if cache is not None else None
    y, state = gated_delta_update(
        q, k, v, a, b, a_log, dt_bias, state, mask, allow_neg_eigval=allow_neg_eigval
    )
    if cache is not None:
        cache[slot] = state
    return y


def delta_rule(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    g: mx.array,
    beta: mx.array,
    cache: Any = None,
    mask: mx.array | None = None,
    slot: int = 1,
) -> mx.array:
    """Delta rule with decays exp(g) (Kimi Team 2025): q and k (B, L, H, D), v (B, L, H, P), beta (B, L, H).

    The decay is one for each head, g (B, L, H), or for each feature of its keys, g (B, L, H, D).
    """
    state = cache[slot] if cache is not None else None
    if state is None:
        state = mx.zeros((q.shape[0], *v.shape[2:], q.shape[3]), mx.float32)
    metal = mx.metal.is_available() and mx.default_device() == mx.gpu
    update = gated_delta_kernel if metal and q.shape[3] % 32 == 0 else gated_delta_ops
    y, state = update(q, k, v, mx.exp(g), beta, state, mask)
    if cache is not None:
        cache[slot] = state
    return y


def decayed_attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    decay: mx.array,
    cache: Any = None,
    mask: mx.array | None = None,
    slot: int = 1,
) -> mx.array:
    """Lightning attention (Qin et al. 2024): q and k (B, L, H, D), v (B, L, H, P); decay (H,) for each token that passes."""
    state = cache[slot] if cache is not None else None
    if state is None:
        state = mx.zeros((q.shape[0], *k.shape[2:], v.shape[3]), mx.float32)
    rate, outputs = mx.log(decay)[:, None, None], []
    for start in range(0, q.shape[1], 64):  # so many tokens at once, for the sake of memory
        part = slice(start, start + 64)
        x, y, z = (array[:, part].swapaxes(1, 2) for array in (q, k, v))
        seen = mx.arange(1, x.shape[2] + 1)[None]  # how many tokens there were, padding not counted
        if mask is not None:
            seen = mx.cumsum(mask[:, part].astype(mx.int32), axis=1)
            y = mx.where(mask[:, None, part, None], y, 0)
        seen = seen[:, None]
        gaps = mx.tril(seen[..., None] - seen[..., None, :])
        weights = mx.tril(x @ y.swapaxes(-1, -2) * mx.exp(gaps * rate))
        outputs.append(weights @ z + x * mx.exp(seen[..., None] * rate) @ state)
        left = y * mx.exp((seen[..., -1:] - seen)[..., None] * rate)
        state = state * mx.exp(seen[..., -1:, None] * rate) + left.swapaxes(-1, -2) @ z
    if cache is not None:
        cache[slot] = state
    return mx.concatenate(outputs, axis=2).swapaxes(1, 2).astype(q.dtype)


def matrix_lstm(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    i: mx.array,
    f: mx.array,
    eps: float,
    cache: Any = None,
    mask: mx.array | None = None,
    slot: int = 1,
) -> mx.array:
    """mLSTM (Beck et al. 2024): q and k (B, L, H, D), v (B, L, H, P); i and f (B, L, H) are its gates, as logarithm and logit.

    The state is a matrix of values by keys, the sum of keys, and the logarithm of what both are divided by.
    """
    state = cache[slot] if cache is not None else None
    if state is None:
        state = mx.zeros((q.shape[0], *k.shape[2:], v.shape[3] + 2), mx.float32)
    gate = -nn.softplus(-f)
    if mask is not None:
        i, gate = mx.where(mask[..., None], i, -1e38), mx.where(mask[..., None], gate, 0)
    v = mx.concatenate([v, mx.ones((*v.shape[:3], 1), v.dtype)], axis=-1)
    outputs = []
    for start in range(0, q.shape[1], 64):  # so many tokens at once, for the sake of memory
        part = slice(start, start + 64)
        x, y, z, now, kept = (array[:, part].swapaxes(1, 2) for array in (q, k, v, i, gate))
        matrix, old = state[..., :-1], state[..., :1, -1]
        passed = mx.cumsum(kept, axis=-1)
        gaps = passed[..., None] - passed[..., None, :] + now[..., None, :]
        gaps = mx.where(mx.tri(x.shape[2], dtype=mx.bool_), gaps, -mx.inf)
        top = mx.maximum(gaps.max(axis=-1), passed + old)
        weights = x @ y.swapaxes(-1, -2) * mx.exp(gaps - top[..., None])
        both = weights @ z + x * mx.exp(passed + old - top)[..., None] @ matrix
        least = mx.maximum(mx.abs(both[..., -1:]), mx.exp(-top)[..., None])
        outputs.append(both[..., :-1] / (least + eps))
        last = top[..., -1:]
        left = y * mx.exp(gaps[..., -1, :] - last)[..., None]
        matrix = (
            matrix * mx.exp(passed[..., -1:] + old - last)[..., None] + left.swapaxes(-1, -2) @ z
        )
        state = mx.concatenate(
            [matrix, mx.broadcast_to(last[..., None], (*matrix.shape[:3], 1))], -1
        )
    if cache is not None:
        cache[slot] = state
    return mx.concatenate(outputs, axis=2).swapaxes(1, 2).astype(q.dtype)


def token_before(
    x: mx.array, cache: Any = None, mask: mx.array | None = None, slot: int = 0
) -> mx.array:
    """The features (B, L, D) of the token before each, zeros before the first."""
    if mask is not None:
        x = mx.where(mask[..., None], x, 0)
    past = cache[slot] if cache is not None else None
    if past is None:
        past = mx.zeros((x.shape[0], 1, x.shape[2]), x.dtype)
    x = mx.concatenate([past, x], axis=1)
    if cache is not None and cache.lengths is not None:  # texts that are padded at the right
        ends = mx.clip(cache.lengths, 0, x.shape[1] - 1)
        cache[slot] = mx.take_along_axis(x, ends[:, None, None], axis=1)
    elif cache is not None:
        cache[slot] = x[:, -1:]
    return x[:, :-1]


def wkv(
    k: mx.array,
    v: mx.array,
    decay: mx.array,
    first: mx.array,
    cache: Any = None,
    mask: mx.array | None = None,
    slot: int = 1,
) -> mx.array:
    """RWKV 4 (Peng et al. 2023): means of v (B, L, D) by weights exp(k) that decay with each token; decay and first (D,).

    The state is the mean of all tokens so far and the logarithm of their weight.
    """
    state = cache[slot] if cache is not None else None
    if state is None:
        state = mx.stack([mx.zeros_like(v[:, 0]), mx.full(k[:, 0].shape, -1e38)], axis=1)
    mean, total = state[:, 0], state[:, 1]
    if mask is not None:
        k = mx.where(mask[..., None], k, -1e38)
    rate, outputs = -mx.exp(decay), []
    for start in range(0, k.shape[1], 32):  # so many tokens at once, for the sake of memory
        part = slice(start, start + 32)
        keys = mx.concatenate([total[:, None], k[:, part]], axis=1)
        values = mx.concatenate([mean[:, None], v[:, part]], axis=1)
        places = mx.arange(keys.shape[1])
        seen = places[None]  # how many tokens there were, padding not counted
        if mask is not None:
            seen = mx.pad(mx.cumsum(mask[:, part].astype(mx.int32), axis=1), [(0, 0), (1, 0)])
        passed = (seen[:, :-1, None] - seen[:, None])[..., None]
        own, later = places[:-1, None] + 1 == places, places[:-1, None] + 1 < places
        weights = keys[:, None] + mx.where(own[..., None], first, passed * rate)
        weights = mx.softmax(mx.where(later[..., None], -mx.inf, weights), axis=2)
        outputs.append((weights * values[:, None]).sum(axis=2))
        left = keys + (seen[:, -1:] - seen)[..., None] * rate
        mean, total = (mx.softmax(left, axis=1) * values).sum(axis=1), mx.logsumexp(left, axis=1)
    if cache is not None:
        cache[slot] = mx.stack([mean, total], axis=1)
    return mx.concatenate(outputs, axis=1)
