"""Boxes on images."""

import mlx.core as mx


def nms(boxes: mx.array, scores: mx.array, threshold: float) -> mx.array:
    """The numbers of the boxes (N, 4: x1, y1, x2, y2) that no better one overlaps by more than threshold, best first.

    Waits for the boxes on the host: how many are left depends on the data.
    """
    order = mx.argsort(-scores)
    low, high = boxes[order, :2], boxes[order, 2:]
    area = mx.prod(high - low, axis=-1)
    common = mx.minimum(high[:, None], high) - mx.maximum(low[:, None], low)
    shared = mx.prod(mx.maximum(common, 0), axis=-1)
    overlaps = shared / (area[:, None] + area - shared) > threshold
    overlaps = overlaps & (mx.arange(len(boxes))[:, None] < mx.arange(len(boxes)))
    kept, before = mx.ones(len(boxes), dtype=mx.bool_), mx.zeros(len(boxes), dtype=mx.bool_)
    while not mx.array_equal(kept, before).item():  # a box falls only to one that is kept itself
        kept, before = ~(overlaps & kept[:, None]).any(axis=0), kept
    count = kept.sum().item()
    cells = mx.sort(mx.where(kept, mx.arange(len(boxes)), len(boxes)))[:count]
    return order[cells].astype(mx.int64)


def roi_align(
    x: mx.array,
    rois: mx.array,
    scale: float,
    size: tuple[int, int],
    samples: int,
    aligned: bool = False,
) -> mx.array:
    """x (N, H, W, C) averaged over the cells of boxes rois (K, 5: image, x1, y1, x2, y2): (K, *size, C).

    Each cell is the mean of samples x samples places, read linearly between the image's cells.
    """
    start = rois[:, 2:0:-1] * scale - (0.5 if aligned else 0.0)
    extent = rois[:, 4:2:-1] * scale - (0.5 if aligned else 0.0) - start
    if not aligned:
        extent = mx.maximum(extent, 1.0)
    ends, weights = [], []
    for axis, count in enumerate(size):
        steps = (mx.arange(count * samples) + 0.5) / (count * samples)
        place = start[:, axis, None] + extent[:, axis, None] * steps
        inside = (place >= -1) & (place <= x.shape[1 + axis])
        place = mx.clip(place, 0, x.shape[1 + axis] - 1)
        low = mx.floor(place).astype(mx.int32)
        ends.append((low, mx.minimum(low + 1, x.shape[1 + axis] - 1)))
        share = place - low
        weights.append((mx.where(inside, 1 - share, 0), mx.where(inside, share, 0)))
    image = rois[:, 0].astype(mx.int32)[:, None, None]
    total = mx.zeros((), dtype=x.dtype)
    for row, down in zip(ends[0], weights[0], strict=True):
        for column, across in zip(ends[1], weights[1], strict=True):
            cells = x[image, row[:, :, None], column[:, None, :]]
            total = total + cells * (down[:, :, None] * across[:, None, :])[..., None]
    parts = total.reshape(len(rois), size[0], samples, size[1], samples, x.shape[-1])
    return parts.mean(axis=(2, 4))
