"""Losses that mlx.nn has in another form."""

import mlx.core as mx


def nll_loss(
    x: mx.array,
    target: mx.array,
    weight: mx.array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> tuple[mx.array, mx.array]:
    """-x at the target classes of axis 1 (of axis 0 without a batch), and the sum of the classes' weights."""
    axis = min(1, x.ndim - 1)
    counted = target != ignore_index
    target = mx.where(counted, target, 0)
    share = counted.astype(x.dtype) if weight is None else mx.where(counted, weight[target], 0)
    loss = -mx.take_along_axis(x, mx.expand_dims(target, axis), axis=axis).squeeze(axis) * share
    loss = mx.where(counted, loss, 0)
    if reduction == "none":
        return loss, mx.zeros((), dtype=x.dtype)
    return loss.sum() / share.sum() if reduction == "mean" else loss.sum(), share.sum()
