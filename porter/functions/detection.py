"""Boxes on images."""

import math
from typing import Any

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
    # S2: a box falls only to one that is kept itself, and how often that is asked depends on the data
    while not mx.array_equal(kept, before).item():
        kept, before = ~(overlaps & kept[:, None]).any(axis=0), kept
    count = kept.sum().item()  # S2: and so does how many boxes are left
    cells = mx.sort(mx.where(kept, mx.arange(len(boxes)), len(boxes)))[:count]
    return order[cells].astype(mx.int64)


def batched_nms(boxes: mx.array, scores: mx.array, groups: mx.array, threshold: float) -> mx.array:
    """nms among the boxes of each group; few boxes (up to 1000) are told apart by moving each group to a place of its own."""
    if len(boxes) == 0:
        return mx.zeros(0, dtype=mx.int64)
    if boxes.size <= 4000:
        far = groups.astype(boxes.dtype) * (boxes.max() + 1)
        return nms(boxes + far[:, None], scores, threshold)
    kept = mx.zeros(len(boxes), dtype=mx.bool_)
    numbers = mx.arange(len(boxes))
    most: Any = groups.max().item()  # S2: how many groups there are depends on the data
    for group in range(most + 1):
        count = (groups == group).sum().item()  # S2: and so does how many boxes each has
        own = mx.sort(mx.where(groups == group, numbers, len(boxes)))[:count]
        if count:
            kept[own[nms(boxes[own], scores[own], threshold)]] = True
    order = mx.argsort(-scores)
    count = kept.sum().item()  # S2: as many as nms leaves
    return order[mx.sort(mx.where(kept[order], numbers, len(boxes)))[:count]].astype(mx.int64)


def heatmaps_to_keypoints(maps: mx.array, rois: mx.array) -> tuple[mx.array, mx.array]:
    """The highest place of each map (N, H, W, K) drawn as large as its box (N, 4): x, y, 1 (N, K, 3) and its height (N, K)."""
    points, heights = [mx.zeros((0, maps.shape[-1], 3))], [mx.zeros((0, maps.shape[-1]))]
    sides: Any = rois.tolist()  # S2: how large each map is drawn depends on the data
    for image, (left, top, right, bottom) in zip(maps, sides, strict=True):
        width, height = max(right - left, 1.0), max(bottom - top, 1.0)
        columns, rows = math.ceil(width), math.ceil(height)
        down, across = (
            enlarging_weights(rows, image.shape[0]),
            enlarging_weights(columns, image.shape[1]),
        )
        drawn = mx.einsum("yh,xw,hwk->kyx", down, across, image).flatten(1)
        place = drawn.argmax(axis=1)
        x = (place % columns + 0.5) * (width / columns) + left
        y = (place // columns + 0.5) * (height / rows) + top
        points.append(mx.stack([x, y, mx.ones_like(x)], axis=-1)[None])
        heights.append(drawn.max(axis=1)[None])
    return mx.concatenate(points), mx.concatenate(heights)


def enlarging_weights(out: int, size: int) -> mx.array:
    """(out, size): by what an axis' elements count where it is drawn at another size by cubic convolution, A = -0.75."""
    place = (mx.arange(out) + 0.5) * (size / out) - 0.5
    first = mx.floor(place)
    total = mx.zeros((out, size))
    for tap in range(-1, 3):
        t = mx.abs(place - first - tap)
        near = (1.25 * t - 2.25) * t * t + 1
        far = ((-0.75 * t + 3.75) * t - 6) * t + 3
        weight = mx.where(t <= 1, near, far)
        cell = mx.clip(first + tap, 0, size - 1)
        total = total + weight[:, None] * (cell[:, None] == mx.arange(size))
    return total


def paste_masks(
    masks: mx.array, boxes: mx.array, size: tuple[int, int], padding: int = 1
) -> mx.array:
    """Masks (N, M, M, 1) drawn into their boxes (N, 4: x1, y1, x2, y2) on images of a size (height, width): (N, *size, 1)."""
    masks = mx.pad(masks, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    side = masks.shape[1]
    half = (boxes[:, 2:] - boxes[:, :2]) * 0.5 * (side / (side - 2 * padding))
    middle = (boxes[:, 2:] + boxes[:, :2]) * 0.5
    low, high = (middle - half).astype(mx.int32), (middle + half).astype(mx.int32)
    reads = []
    for axis, length in ((1, size[0]), (0, size[1])):
        start, count = low[:, axis, None], mx.maximum(high - low + 1, 1)[:, axis, None]
        cell = mx.arange(length) - start
        place = mx.clip((cell + 0.5) * (side / count) - 0.5, 0, side - 1)[..., None]
        weight = mx.maximum(1 - mx.abs(place - mx.arange(side)), 0)
        reads.append(weight * ((cell >= 0) & (cell < count))[..., None])
    return mx.einsum("nyh,nxw,nhwc->nyxc", *reads, masks)


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
    rois = mx.stop_gradient(rois)  # as torch does
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
