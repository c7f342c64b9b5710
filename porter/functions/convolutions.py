"""Grouped convolutions that MLX does not have: one convolution for each group of channels."""

import mlx.core as mx


def grouped_conv3d(
    x: mx.array,
    weight: mx.array,
    stride: int | tuple[int, int, int] = 1,
    padding: int | tuple[int, int, int] = 0,
    dilation: int | tuple[int, int, int] = 1,
    groups: int = 1,
) -> mx.array:
    """x (N, D, H, W, C) with weight (out, kd, kh, kw, C / groups)."""
    parts = zip(mx.split(x, groups, axis=-1), mx.split(weight, groups, axis=0), strict=True)
    return mx.concatenate(
        [mx.conv3d(part, kernel, stride, padding, dilation) for part, kernel in parts], axis=-1
    )


def grouped_conv_transpose1d(
    x: mx.array,
    weight: mx.array,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    output_padding: int = 0,
    groups: int = 1,
) -> mx.array:
    """x (N, L, C) with weight (out / groups, k, C)."""
    moves = (stride, padding, dilation, output_padding)
    parts = zip(mx.split(x, groups, axis=-1), mx.split(weight, groups, axis=-1), strict=True)
    return mx.concatenate([mx.conv_transpose1d(a, b, *moves) for a, b in parts], axis=-1)


def grouped_conv_transpose2d(
    x: mx.array,
    weight: mx.array,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    output_padding: int | tuple[int, int] = 0,
    groups: int = 1,
) -> mx.array:
    """x (N, H, W, C) with weight (out / groups, kh, kw, C)."""
    moves = (stride, padding, dilation, output_padding)
    parts = zip(mx.split(x, groups, axis=-1), mx.split(weight, groups, axis=-1), strict=True)
    return mx.concatenate([mx.conv_transpose2d(a, b, *moves) for a, b in parts], axis=-1)


def grouped_conv_transpose3d(
    x: mx.array,
    weight: mx.array,
    stride: int | tuple[int, int, int] = 1,
    padding: int | tuple[int, int, int] = 0,
    dilation: int | tuple[int, int, int] = 1,
    output_padding: int | tuple[int, int, int] = 0,
    groups: int = 1,
) -> mx.array:
    """x (N, D, H, W, C) with weight (out / groups, kd, kh, kw, C)."""
    moves = (stride, padding, dilation, output_padding)
    parts = zip(mx.split(x, groups, axis=-1), mx.split(weight, groups, axis=-1), strict=True)
    return mx.concatenate([mx.conv_transpose3d(a, b, *moves) for a, b in parts], axis=-1)
