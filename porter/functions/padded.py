"""Sequences of several lengths in one array, padded behind: x (B, L, D), lengths (B,)."""

import mlx.core as mx


def reversed_sequences(x: mx.array, lengths: mx.array) -> mx.array:
    """The steps of each sequence in reverse; its padding stays where it is."""
    steps, lengths = mx.arange(x.shape[1]), lengths[:, None]
    return mx.take_along_axis(
        x, mx.where(steps < lengths, lengths - 1 - steps, steps)[..., None], axis=1
    )


def last_steps(x: mx.array, lengths: mx.array) -> mx.array:
    """The last step of each sequence, (B, D)."""
    return mx.take_along_axis(x, (lengths - 1)[:, None, None], axis=1).squeeze(1)


def zero_padding(x: mx.array, lengths: mx.array) -> mx.array:
    """x with zeros for padding."""
    return mx.where((mx.arange(x.shape[1]) < lengths[:, None])[..., None], x, 0)
