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
    lower = [mx.floor(place) for place in places]
    shares = [place - low for place, low in zip(places, lower, strict=True)]
    total = mx.zeros((), dtype=x.dtype)
    for corner in range(2 ** len(sizes)):
        bits = [corner >> axis & 1 for axis in range(len(sizes))]
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
        index = index * size + mx.clip(cell, 0, size - 1).astype(mx.int32)
    return mx.where(known[..., None], x.flatten(0, -2)[index], 0)


def cubic_weights(t: mx.array, a: float = -0.75) -> tuple[mx.array, ...]:
    """The four weights of Keys' kernel for a place t beyond the second of four cells."""

    def near(s: mx.array) -> mx.array:
        return ((a + 2) * s - (a + 3)) * s * s + 1

    def far(s: mx.array) -> mx.array:
        return ((a * s - 5 * a) * s + 8 * a) * s - 4 * a

    return far(t + 1), near(t), near(1 - t), far(2 - t)


def affine_grid(theta: mx.array, size: Sequence[int], align_corners: bool = False) -> mx.array:
    """The grid (N, *size, axes) that theta (N, axes, axes + 1) makes of a regular one from -1 to 1."""
    axes = []
    for axis, count in enumerate(reversed(size)):
        edge = 1.0 if align_corners else 1 - 1 / count
        steps = mx.linspace(-edge, edge, count) if count > 1 else mx.zeros(1)
        axes.append(mx.broadcast_to(steps.reshape(-1, *[1] * axis), size))
    base = mx.stack([*axes, mx.ones(size)], axis=-1).astype(theta.dtype)
    return (base.flatten(0, -2) @ theta.swapaxes(1, 2)).reshape(len(theta), *size, len(size))
