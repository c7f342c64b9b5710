"""The shapes in which a transformers model may take an input, by the input's name and its configuration."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

BATCH = 2
LENGTH = 16
AUDIO_SAMPLES = 16_000  # one second at 16 kHz
EVEN_SAMPLES = 15_360  # a little less, of whole frames of 96, 320, 512, 1920 samples
FRAMES = 128  # of a spectrogram

#: A shape, and the names of the axes that may change.
Shape = tuple[tuple[int, ...], dict[int, str]]


def setting(config: Any, *names: str) -> Any:
    """The first of `names` that the configuration, or one nested in it, has a value for; else None."""
    for name in names:
        for part in nested(config):
            value = getattr(part, name, None)
            if value is not None and value != ():
                return value
    return None


def nested(config: Any) -> Iterator[Any]:
    """The configuration and those inside it, outermost first."""
    queue = deque([config])
    while queue:
        part = queue.popleft()
        yield part
        queue += [
            value for key in part.sub_configs if (value := getattr(part, key, None)) is not None
        ]


def shapes_of(name: str, config: Any) -> list[Shape]:
    """The shapes that are usual for the floating input `name`, the likeliest first; none for an unknown one."""
    rule = _RULES.get(name)
    return rule(config) if rule is not None else []


def _vision(config: Any) -> Any:
    for part in nested(config):
        if any(getattr(part, key, None) is not None for key in ("image_size", "patch_size")):
            return part
    return config


def image_of(config: Any) -> tuple[int, int, int]:
    """Channels, height and width."""
    vision = _vision(config)
    size = getattr(vision, "image_size", None) or setting(config, "image_size") or 224
    if isinstance(size, dict):
        size = (size.get("height", 224), size.get("width", 224))
    height, width = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    channels = next(
        (
            value
            for key in ("num_channels", "in_channels", "in_chans")
            if isinstance(value := getattr(vision, key, None) or setting(config, key), int)
        ),
        3,
    )
    return channels, height, width


def _pixels(config: Any) -> list[Shape]:
    image = ((BATCH, *image_of(config)), {0: "batch", 2: "height", 3: "width"})
    video = _video(config)
    pair = ((BATCH, 2, *image_of(config)), {0: "batch"})
    if isinstance(setting(config, "num_frames"), int):
        return [*video, image]
    return [image, *video, pair]


def _video(config: Any) -> list[Shape]:
    frames = setting(config, "num_frames", "frames_per_clip", "num_image_with_embedding") or 4
    return [((BATCH, frames, *image_of(config)), {0: "batch"})]


def _waveform(config: Any) -> list[Shape]:
    bins = setting(config, "num_mel_bins")
    channels = setting(config, "audio_channels", "channels", "num_channels", "in_channels") or 1
    plain = ((BATCH, AUDIO_SAMPLES), {0: "batch", 1: "length"})
    shaped = ((BATCH, channels, AUDIO_SAMPLES), {0: "batch", 2: "length"})
    even = [
        ((BATCH, EVEN_SAMPLES), {0: "batch"}), ((BATCH, channels, EVEN_SAMPLES), {0: "batch"}),
    ]  # fmt: skip
    spectrogram = (
        (BATCH, setting(config, "max_length", "spec_size") or FRAMES, bins),
        {0: "batch"},
    )
    image = ((BATCH, 1, *(spectrogram[0][1:])), {0: "batch"})
    mono = [((BATCH, 1, AUDIO_SAMPLES), shaped[1])] if channels != 1 else []
    return [plain, shaped, *mono, *([spectrogram, image] if isinstance(bins, int) else []), *even]


def _spectrogram(config: Any) -> list[Shape]:
    names = (
        "num_mel_bins", "feature_projection_input_dim", "input_feat_size", "num_mel_channels", "n_mels", "input_dim",
        "input_size", "feature_size", "mel_dim", "feat_in", "n_mel_bins",
    )  # fmt: skip
    widths = dict.fromkeys(
        value for name in names if isinstance(value := setting(config, name), int)
    )
    stacked = [2 * bins for bins in widths] + [4 * bins for bins in widths]  # frames side by side
    return [
        shape for bins in [*widths, *stacked] or (80,) for shape in _spectrogram_of(config, bins)
    ]


def _spectrogram_of(config: Any, bins: int) -> list[Shape]:
    longest = setting(config, "max_source_positions")
    whole = 2 * longest if isinstance(longest, int) else FRAMES
    by_bins = [((BATCH, bins, whole), {0: "batch"})]  # the positions are learned: one length
    if whole != FRAMES:
        by_bins.append(((BATCH, bins, FRAMES), {0: "batch", 2: "length"}))
    by_time = [((BATCH, FRAMES, bins), {0: "batch", 1: "length"})]
    images = [((BATCH, 1, setting(config, "spec_size") or FRAMES, bins), {0: "batch"})]
    first_bins = setting(config, "num_mel_bins") is not None and longest is not None
    return [*by_bins, *by_time, *images] if first_bins else [*by_time, *by_bins, *images]


def _noise(config: Any) -> list[Shape]:
    """A row of noise for each frame of a spectrogram."""
    width = setting(config, "model_in_channels")
    return [((BATCH, FRAMES, width), {0: "batch", 1: "length"})] if width else []


def _states(config: Any) -> list[Shape]:
    """Features that another module computed, channels last or first."""
    widths = dict.fromkeys(
        value
        for key in ("hidden_size", "d_model", "latent_dim", "codebook_dim", "in_channels")
        if isinstance(value := setting(config, key), int)
    )
    channels = setting(config, "channels")
    sound: list[Shape] = [((BATCH, channels, EVEN_SAMPLES), {0: "batch"})]
    features: list[Shape] = [
        shape
        for width in widths
        for shape in (
            ((BATCH, LENGTH, width), {0: "batch", 1: "length"}),
            ((BATCH, width, LENGTH), {0: "batch", 2: "length"}),
        )
    ]
    return features + (sound if isinstance(channels, int) else [])


def _any_features(config: Any) -> list[Shape]:
    """What an encoder of any modality reads under a name that tells none."""
    return [*_states(config), *_waveform(config)]


def _series(config: Any) -> list[Shape]:
    length = setting(config, "context_length") or setting(config, "prediction_length") or LENGTH
    lags = setting(config, "lags_sequence")
    if lags:
        length += max(lags)
    channels = setting(config, "num_input_channels", "input_size") or 1
    single = ((BATCH, length), {0: "batch"})
    several = ((BATCH, length, channels), {0: "batch"})
    return [single, several] if channels == 1 and lags else [several, single]


def _time_features(config: Any) -> list[Shape]:
    length = _series(config)[0][0][1]
    return [((BATCH, length, setting(config, "num_time_features") or 0), {0: "batch"})]


def _flat_patches(config: Any) -> list[Shape]:
    """Row, column and pixels of each patch."""
    width = setting(config, "patch_embed_hidden_size")
    return [((BATCH, LENGTH, 2 + width), {0: "batch", 1: "length"})] if width else []


def _steps(*names: str) -> Callable[[Any], list[Shape]]:
    """What an agent sees, does or gets in each step of an episode; one number where no setting gives a width."""

    def rule(config: Any) -> list[Shape]:
        width = setting(config, *names) if names else 1
        return [((BATCH, LENGTH, width), {0: "batch", 1: "length"})] if width else []

    return rule


_RULES: dict[str, Callable[[Any], list[Shape]]] = {
    "pixel_values": _pixels,
    "high_res_pixel_values": _pixels,
    "prompt_pixel_values": _pixels,
    "pixel_values_videos": _video,
    "input_values": _waveform,
    "input_features": _spectrogram,
    "audio_mel": _spectrogram,
    "inputs_embeds": _states,
    "hidden_states": _states,
    "query_embeds": _states,
    "latents": _states,
    "noise_embeds": _states,
    "noise_sequence": _noise,
    "context_hidden_states": _states,
    "inputs": _any_features,
    "flattened_patches": _flat_patches,
    "states": _steps("state_dim"),
    "actions": _steps("act_dim"),
    "rewards": _steps(),
    "returns_to_go": _steps(),
    "past_values": _series,
    "past_time_features": _time_features,
}
