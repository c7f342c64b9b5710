"""Short-time Fourier transforms in torch's layout (..., frequencies, frames)."""

import mlx.core as mx


def stft(
    x: mx.array,
    size: int,
    hop: int,
    window: mx.array | None = None,
    norm: str = "backward",
    onesided: bool = True,
) -> mx.array:
    """The transforms of the frames of x (..., L), `size` samples every `hop`: (..., frequencies, frames)."""
    starts = mx.arange(0, x.shape[-1] - size + 1, hop)
    frames = x[..., starts[:, None] + mx.arange(size)]
    if window is not None:
        frames = frames * window
    transform = mx.fft.rfft if onesided else mx.fft.fft
    return transform(frames, norm=norm).swapaxes(-1, -2)


def istft(
    x: mx.array,
    size: int,
    hop: int,
    window: mx.array,
    norm: str = "backward",
    center: bool = True,
    length: int | None = None,
) -> mx.array:
    """The signal whose windowed frames have the transforms x (..., frequencies, frames), joined by overlap-add."""
    frames = mx.fft.irfft(x.swapaxes(-1, -2), size, norm=norm) * window
    count = frames.shape[-2]
    cells = mx.arange(count)[:, None] * hop + mx.arange(size)
    total = size + hop * (count - 1)
    signal = mx.zeros((*x.shape[:-2], total), dtype=frames.dtype).at[..., cells].add(frames)
    weight = mx.zeros(total).at[cells].add(mx.broadcast_to(window * window, cells.shape))
    start = size // 2 if center else 0
    stop = total - start if length is None else min(start + length, total)
    signal = signal[..., start:stop] / weight[start:stop]
    missing = 0 if length is None else length - signal.shape[-1]
    return mx.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(0, missing)]) if missing else signal
