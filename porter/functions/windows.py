"""Sliding windows put together again."""

import mlx.core as mx


def fold(
    windows: mx.array,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> mx.array:
    """Adds up windows (N, windows, cells, C) that may overlap, as they lie in an image: (N, *size, C)."""
    height, width = (n + 2 * p for n, p in zip(size, padding, strict=True))
    rows = (height - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    parts = windows.reshape(windows.shape[0], rows, -1, *kernel, windows.shape[-1])
    image = mx.zeros((windows.shape[0], height, width, windows.shape[-1]), dtype=windows.dtype)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            down = slice(top, top + rows * stride[0], stride[0])
            across = slice(left, left + parts.shape[2] * stride[1], stride[1])
            image = image.at[:, down, across].add(parts[:, :, :, i, j])
    return image[:, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]
