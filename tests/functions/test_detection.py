"""Boxes and moved taps against loops in NumPy."""

import mlx.core as mx
import numpy as np
import torch

from porter.functions import function

RANDOM = np.random.default_rng(0)


def overlap(a, b):
    wide = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    shared = wide.prod()
    return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


def test_nms_keeps_what_no_better_box_overlaps():
    corner = RANDOM.uniform(0, 20, (60, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + RANDOM.uniform(3, 15, (60, 2))], 1).astype(np.float32)
    scores = RANDOM.uniform(size=60).astype(np.float32)
    kept = []
    for number in np.argsort(-scores):
        if all(overlap(boxes[number], boxes[other]) <= 0.4 for other in kept):
            kept.append(number)
    found = function("nms")(mx.array(boxes), mx.array(scores), 0.4)
    assert np.array(found).tolist() == kept
    assert 5 < len(kept) < 50


def between(image, y, x):
    """One image (H, W, C) at a place, 0 beyond it."""
    height, width, channels = image.shape
    total = np.zeros(channels)
    for row in (int(np.floor(y)), int(np.floor(y)) + 1):
        for column in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += image[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def test_roi_align_is_the_mean_of_samples():
    images = RANDOM.normal(size=(2, 6, 7, 3)).astype(np.float32)
    rois = np.array([[0, 1, 2, 11, 9], [1, -5, 0, 30, 3.5]], dtype=np.float32)
    for aligned in (False, True):
        found = np.array(
            function("roi_align")(mx.array(images), mx.array(rois), 0.5, (2, 3), 2, aligned)
        )
        for k, (image, *box) in enumerate(rois):
            x1, y1, x2, y2 = np.array(box) * 0.5 - (0.5 if aligned else 0)
            high, wide = (max(e, 1) if not aligned else e for e in (y2 - y1, x2 - x1))
            for i in range(2):
                for j in range(3):
                    values = []
                    for a in range(2):
                        for b in range(2):
                            y = y1 + (i + (a + 0.5) / 2) * high / 2
                            x = x1 + (j + (b + 0.5) / 2) * wide / 3
                            if not (-1 <= y <= 6 and -1 <= x <= 7):
                                values.append(np.zeros(3))
                                continue
                            held = np.clip(y, 0, 5), np.clip(x, 0, 6)
                            values.append(between(images[int(image)], *held))
                    np.testing.assert_allclose(found[k, i, j], np.mean(values, 0), atol=1e-5)


def test_deform_conv2d_moves_the_taps():
    x = RANDOM.normal(size=(1, 6, 5, 4)).astype(np.float32)
    weight = RANDOM.normal(size=(6, 3, 2, 2)).astype(np.float32)
    offset = RANDOM.normal(size=(1, 3, 5, 2 * 2 * 6)).astype(np.float32)
    mask = RANDOM.uniform(size=(1, 3, 5, 2 * 6)).astype(np.float32)
    found = function("deform_conv2d")(
        mx.array(x),
        mx.array(weight),
        mx.array(offset),
        mx.array(mask),
        (2, 1),
        (1, 1),
        (1, 2),
        2,
        2,
    )
    assert found.shape == (1, 3, 5, 6)
    for i in range(3):
        for j in range(5):
            taps = np.zeros((6, 4))
            for tap in range(6):
                for group in range(2):
                    moved = offset[0, i, j].reshape(2, 6, 2)[group, tap]
                    y = i * 2 - 1 + tap // 2 + moved[0]
                    z = j - 1 + tap % 2 * 2 + moved[1]
                    channels = slice(2 * group, 2 * group + 2)
                    share = mask[0, i, j].reshape(2, 6)[group, tap]
                    taps[tap, channels] = between(x[0, :, :, channels], y, z) * share
            for out in range(6):
                part = taps[:, 2 * (out // 3) : 2 * (out // 3) + 2]
                expected = (part * weight[out].reshape(6, 2)).sum()
                np.testing.assert_allclose(float(found[0, i, j, out]), expected, atol=1e-5)


def boxes_within(count, side):
    corner = RANDOM.uniform(0, side, (count, 2)).astype(np.float32)
    return np.concatenate([corner, corner + RANDOM.uniform(3, 20, (count, 2))], 1).astype("float32")


def test_batched_nms_as_torchvision_does_it():
    from torchvision.ops import batched_nms

    for count in (0, 300, 1100):  # beyond 1000 boxes torchvision goes by each group
        boxes, scores = boxes_within(count, 60), RANDOM.uniform(size=count).astype(np.float32)
        groups = RANDOM.integers(0, 5, count)
        expected = batched_nms(*map(torch.from_numpy, (boxes, scores, groups)), 0.4)
        found = function("batched_nms")(mx.array(boxes), mx.array(scores), mx.array(groups), 0.4)
        assert np.array(found).tolist() == expected.tolist()


def test_keypoints_as_torchvision_finds_them():
    from torchvision.models.detection.roi_heads import heatmaps_to_keypoints

    maps, boxes = RANDOM.normal(size=(4, 14, 12, 5)).astype(np.float32), boxes_within(4, 60)
    boxes[0, 2:] = boxes[0, :2] - 1  # counts as one cell
    expected = heatmaps_to_keypoints(
        torch.from_numpy(maps).permute(0, 3, 1, 2), torch.from_numpy(boxes)
    )
    found = function("heatmaps_to_keypoints")(mx.array(maps), mx.array(boxes))
    for z, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.array(z), y.numpy(), atol=1e-4)


def test_masks_are_pasted_as_torchvision_does_it():
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    masks = RANDOM.uniform(size=(6, 28, 28, 1)).astype(np.float32)
    boxes = np.float32(
        [[3, 4, 30, 40], [-5, -3, 20, 22.7], [50, 30, 90, 77], [9, 9, 9.3, 9.2], [2, 2, 63, 47.5], [0, 0, 5, 5]]
    )  # fmt: skip
    expected = paste_masks_in_image(
        torch.from_numpy(masks).permute(0, 3, 1, 2), torch.from_numpy(boxes), (48, 64)
    )
    found = function("paste_masks")(mx.array(masks), mx.array(boxes), (48, 64))
    np.testing.assert_allclose(np.array(found).transpose(0, 3, 1, 2), expected.numpy(), atol=1e-5)
