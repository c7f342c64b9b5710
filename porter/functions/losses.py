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


def ctc_loss(
    log_probs: mx.array,
    targets: mx.array,
    input_lengths: mx.array,
    target_lengths: mx.array,
    blank: int = 0,
) -> mx.array:
    """-log p(targets | log_probs) of each sample by the forward variables of connectionist temporal classification
    (Graves et al. 2006, section 4.1).

    log_probs (T, N, C), targets (N, S) or one row of all samples' labels, lengths (N,). Returns (N,).
    """
    steps, samples, _ = log_probs.shape
    places = mx.arange(targets.shape[-1])
    if targets.ndim == 1:
        first = mx.cumsum(target_lengths) - target_lengths
        targets = targets[mx.minimum(first[:, None] + places, targets.size - 1)]
    targets = mx.where(places < target_lengths[:, None], targets, blank)

    # a blank before each label and behind the last; a label may follow another one without the blank between them
    labels = mx.full((samples, 2 * targets.shape[1] + 1), blank, dtype=targets.dtype)
    labels[:, 1::2] = targets
    skips = mx.pad((labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2]), [(0, 0), (2, 0)])
    emitted = mx.take_along_axis(
        log_probs, mx.broadcast_to(labels, (steps, *labels.shape)), axis=-1
    )
    never = mx.finfo(log_probs.dtype).min / 2  # -inf has no gradient
    alpha = mx.where(mx.arange(labels.shape[1]) == 0, 0.0, mx.full(labels.shape, never))
    for step in range(steps):
        before = mx.pad(alpha, [(0, 0), (2, 0)], constant_values=never)
        reached = mx.logaddexp(
            mx.logaddexp(alpha, before[:, 1:-1]), mx.where(skips, before[:, :-2], never)
        )
        alpha = mx.where(step < input_lengths[:, None], reached + emitted[step], alpha)

    ends = 2 * target_lengths[:, None] - mx.array([0, 1])
    last = mx.take_along_axis(alpha, mx.maximum(ends, 0), axis=1)
    total = mx.logaddexp(last[:, 0], mx.where(target_lengths > 0, last[:, 1], never))
    return mx.where(total > never / 2, -total, mx.inf)
