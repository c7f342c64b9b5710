"""Reading images between their cells."""

from collections.abc import Sequence

import mlx.core as mx


def grid_sample(
    x: mx.array,
    grid: mx.array,
    mode: str = "bilinear",
    padding: str = "zeros",
    align_corners: bool = False,
) -> mx.array:
    """x (N, *sizes, C) read at grid (N, *out, axes), coordinates from -1 to 1, the last axis' first: (N, *out, C)."""
    sizes = x.shape[1:-1]
    places = [
        inside_image(
            cell_of(grid[..., -1 - axis], size, align_corners), size, padding, align_corners
        )
        for axis, size in enumerate(sizes)
    ]
    if mode == "nearest":
        return cells_of(x, [mx.round(place) for place in places])
    return between_cells(x, places)


def between_cells(x: mx.array, places: Sequence[mx.array]) -> mx.array:
    """x (N, *sizes, C) interpolated linearly at a place for each axis (N, ...), 0 beyond the image: (N, ..., C)."""
    lower = [mx.floor(place) for place in places]
    shares = [place - low for place, low in zip(places, lower, strict=True)]
    total = mx.zeros((), dtype=x.dtype)
    for corner in range(2 ** len(places)):
        bits = [corner >> axis & 1 for axis in range(len(places))]
        weight = mx.ones((), dtype=x.dtype)
        for bit, share in zip(bits, shares, strict=True):
            weight = weight * (share if bit else 1 - share)
        around = cells_of(x, [low + bit for bit, low in zip(bits, lower, strict=True)])
        total = total + around * weight[..., None]
    return total


def grid_sample_cubic(
    x: mx.array, grid: mx.array, padding: str = "zeros", align_corners: bool = False
) -> mx.array:
    """x (N, H, W, C) read at grid (N, *out, 2) by Keys' kernel with a = -0.75: (N, *out, C)."""
    sizes = x.shape[1:-1]
    places = [cell_of(grid[..., 1 - axis], size, align_corners) for axis, size in enumerate(sizes)]
    lower = [mx.floor(place) for place in places]
    rows, columns = (cubic_weights(place - low) for place, low in zip(places, lower, strict=True))
    total = mx.zeros((), dtype=x.dtype)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            around = [
                inside_image(low + (offset - 1), size, padding, align_corners)
                for low, offset, size in zip(lower, (i, j), sizes, strict=True)
            ]
            total = total + cells_of(x, around) * (row * column)[..., None]
    return total


def cell_of(place: mx.array, size: int, align_corners: bool) -> mx.array:
    """From -1 ... 1 to cells: those are the corner cells' centres, or their outer edges."""
    return (place + 1) * ((size - 1) / 2) if align_corners else ((place + 1) * size - 1) / 2


def inside_image(cell: mx.array, size: int, padding: str, align_corners: bool) -> mx.array:
    """A coordinate beyond the image: left there ("zeros"), held at the edge ("border"), or reflected."""
    if padding == "zeros":
        return cell
    if padding == "reflection":
        low, span = (0.0, size - 1) if align_corners else (-0.5, size)
        distance = mx.abs(cell - low)
        turns = mx.floor(distance / span) if span else mx.zeros_like(distance)
        rest = distance - turns * span
        cell = mx.where(turns % 2 == 0, rest, span - rest) + low
    return mx.clip(cell, 0, size - 1)


def cells_of(x: mx.array, cells: Sequence[mx.array]) -> mx.array:
    """x at whole cells of each axis, 0 beyond the image."""
    known = mx.array(True)
    index = mx.arange(len(x)).reshape(-1, *[1] * (cells[0].ndim - 1))
    for cell, size in zip(cells, x.shape[1:-1], strict=True):
        known = known & (cell >= 0) & (cell < size)
        place = mx.stop_gradient(cell).astype(mx.int32)
        index = index * size + mx.clip(place, 0, size - 1)  # a NaN is no index
    return mx.where(known[..., None], x.flatten(0, -2)[index], 0)


def cubic_weights(t: mx.array, a: float = -0.75) -> tuple[mx.array, ...]:
    """The four weights of Keys' kernel for a place t beyond the second of four cells."""

    def near(s: mx.array) -> mx.array:
        return ((a + 2) * s - (a + 3)) * s * s + 1

    def far(s: mx.array) -> mx.array:
        return ((a * s - 5 * a) * s + 8 * a) * s - 4 * a

    return far(t + 1), near(t), near(1 - t), far(2 - t)


def resize_linear(
    x: mx.array, count: int, axis: int, align_corners: bool = False, scale: float | None = None
) -> mx.array:
    """x with `count` cells along an axis, each between the two of x that are nearest.

    `scale` is how many cells of x one takes, where it is not the ratio of the sizes.
    """
    size = x.shape[axis]
    places = mx.maximum(resized_places(size, count, align_corners, scale), 0)
    lower = mx.floor(places)
    share = (places - lower).reshape(-1, *[1] * (x.ndim - axis % x.ndim - 1))
    cells = mx.minimum(lower.astype(mx.int32), size - 1)
    low, high = (mx.take(x, mx.minimum(cells + i, size - 1), axis=axis) for i in (0, 1))
    return (low * (1 - share) + high * share).astype(x.dtype)


def resize_cubic(
    x: mx.array, count: int, axis: int, align_corners: bool = False, scale: float | None = None
) -> mx.array:
    """x with `count` cells along an axis, each by Keys' kernel with a = -0.75; cells beyond the edge are repeated."""
    size = x.shape[axis]
    places = resized_places(size, count, align_corners, scale)
    lower = mx.floor(places)
    total = mx.zeros((), dtype=x.dtype)
    for offset, weight in enumerate(cubic_weights(places - lower)):
        cells = mx.clip(lower.astype(mx.int32) + (offset - 1), 0, size - 1)
        weight = weight.reshape(-1, *[1] * (x.ndim - axis % x.ndim - 1))
        total = total + mx.take(x, cells, axis=axis) * weight
    return total.astype(x.dtype)


def resized_places(
    size: int, count: int, align_corners: bool = False, scale: float | None = None
) -> mx.array:
    """Where the centres of `count` cells lie among `size` ones that cover the same."""
    cells = mx.arange(count, dtype=mx.float32)
    if align_corners:
        return cells * ((size - 1) / max(count - 1, 1))
    return (cells + 0.5) * (size / count if scale is None else scale) - 0.5


def affine_grid(theta: mx.array, size: Sequence[int], align_corners: bool = False) -> mx.array:
    """The grid (N, *size, axes) that theta (N, axes, axes + 1) makes of a regular one from -1 to 1."""
    axes = []
    for axis, count in enumerate(reversed(size)):
        edge = 1.0 if align_corners else 1 - 1 / count
        steps = mx.linspace(-edge, edge, count) if count > 1 else mx.zeros(1)
        axes.append(mx.broadcast_to(steps.reshape(-1, *[1] * axis), size))
    base = mx.stack([*axes, mx.ones(size)], axis=-1).astype(theta.dtype)
    return (base.flatten(0, -2) @ theta.swapaxes(1, 2)).reshape(len(theta), *size, len(size))


def deform_conv2d(
    x: mx.array,
    weight: mx.array,
    offset: mx.array,
    mask: mx.array | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    offset_groups: int = 1,
) -> mx.array:
    """A convolution of x (N, H, W, C) with weight (out, kh, kw, C / groups) whose taps are moved by offset.

    offset (N, out H, out W, 2 offset_groups kh kw) holds y and x of each tap, mask (N, out H, out W, offset_groups kh kw)
    its weight. Returns (N, out H, out W, out).
    """
    n, height, width, _ = offset.shape
    taps = [mx.arange(size) * step for size, step in zip(weight.shape[1:3], dilation, strict=True)]
    rows = (mx.arange(height) * stride[0] - padding[0])[:, None, None, None] + taps[0][:, None]
    columns = (mx.arange(width) * stride[1] - padding[1])[:, None, None] + taps[1]
    count = weight.shape[1] * weight.shape[2]
    rows, columns = (
        mx.broadcast_to(cells, (height, width, *weight.shape[1:3])).flatten(2)
        for cells in (rows, columns)
    )
    moved = offset.reshape(n, height, width, offset_groups, count, 2)
    parts = []
    for group, channels in enumerate(mx.split(x, offset_groups, axis=-1)):
        places = [rows + moved[..., group, :, 0], columns + moved[..., group, :, 1]]
        part = between_cells(channels, places)
        if mask is not None:
            part = part * mask.reshape(n, height, width, offset_groups, count, 1)[..., group, :, :]
        parts.append(part)
    windows = mx.split(mx.concatenate(parts, axis=-1), groups, axis=-1)
    kernels = mx.split(weight, groups, axis=0)
    return mx.concatenate(
        [w.flatten(-2) @ kernel.flatten(1).T for w, kernel in zip(windows, kernels, strict=True)],
        axis=-1,
    )
