"""torchvision's operators on the CPU in Python, for a torch that its C++ library was not built for."""

import torch


def nms(boxes, scores, iou_threshold):
    """The numbers of the boxes that no better one overlaps by more than the threshold, best first."""
    order = torch.sort(scores, stable=True, descending=True).indices
    corners = boxes[order]
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    kept = torch.ones(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if not kept[i]:
            continue
        low = torch.maximum(corners[i, :2], corners[i + 1 :, :2])
        high = torch.minimum(corners[i, 2:], corners[i + 1 :, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        kept[i + 1 :] &= ~(
            shared / (area[i] + area[i + 1 :] - shared) > iou_threshold
        )  # no area: kept
    return order[kept]


def roi_align(
    images, rois, spatial_scale, pooled_height, pooled_width, sampling_ratio, aligned=False
):
    """Each cell of a box is the mean of samples, read linearly; as many as a cell is long where no number is given."""
    result = images.new_zeros(len(rois), images.shape[1], pooled_height, pooled_width)
    shift = 0.5 if aligned else 0.0
    for number, (image, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (corner * spatial_scale - shift for corner in corners)
        reads = []
        for start, end, cells, size in (
            (y1, y2, pooled_height, images.shape[2]),
            (x1, x2, pooled_width, images.shape[3]),
        ):
            extent = end - start if aligned else (end - start).clamp(min=1.0)
            samples = sampling_ratio if sampling_ratio > 0 else int(torch.ceil(extent / cells))
            place = start + extent / cells * (torch.arange(cells * samples) + 0.5) / max(samples, 1)
            reads.append(_mean_of_samples(place.to(images.dtype), cells, samples, size))
        result[number] = torch.einsum("py,qx,cyx->cpq", *reads, images[int(image)])
    return result


def _mean_of_samples(place, cells, samples, size):
    """The weights (cells, size) by which the pixels of an axis count in each cell."""
    held = place.clamp(0, size - 1)
    low = held.floor().long()
    share = held - low
    pixel = torch.arange(size)
    weights = (pixel == low[:, None]) * (1 - share)[:, None]
    weights = weights + (pixel == (low + 1).clamp(max=size - 1)[:, None]) * share[:, None]
    weights = weights * ((place >= -1) & (place <= size))[:, None]
    return weights.reshape(cells, samples, size).sum(1) / max(samples, 1)


KERNELS = {"nms": nms, "roi_align": roi_align}
