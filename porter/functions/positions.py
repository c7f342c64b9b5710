"""Positions that depend on the tokens: what came before a call is read from a cache, and left there again."""

from typing import Any

import mlx.core as mx


def picture_positions(
    ids: mx.array, token: int, rows: int, columns: int, cache: Any = None
) -> mx.array:
    """Positions (3, B, L) in time, height and width (M-RoPE, Wang et al. 2024) of ids (B, L).

    `token` stands for each of a picture's rows * columns features. They are counted from the picture's start by row and
    column; what follows stands max(rows, columns) behind the start.
    """
    size = rows * columns
    past = cache[0] if cache is not None else None
    if past is None:  # the next position, and how many features of the last picture came
        past = mx.zeros((ids.shape[0], 2), mx.int32)
    given = cache.make_mask(ids.shape[1]) if cache is not None else None
    given = mx.ones_like(ids, dtype=mx.bool_) if given is None else given  # all but padding
    shown = (ids == token) & given
    count = past[:, 1:] + mx.cumsum(shown.astype(mx.int32), axis=1)
    place = (count - 1) % size
    steps = mx.where(shown, mx.where(place == size - 1, max(rows, columns), 0), given)
    ends = past[:, :1] + mx.cumsum(steps, axis=1)
    if cache is not None:
        cache[0] = mx.stack([ends[:, -1], count[:, -1] % size], axis=1)
        cache.advance(ids.shape[1])
    inside = mx.stack([mx.zeros_like(place), place // columns, place % columns])
    return ends - steps + mx.where(shown, inside, 0)
