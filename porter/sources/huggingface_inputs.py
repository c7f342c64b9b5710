"""Example inputs for a transformers model, from its forward signature and configuration."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from porter.errors import UsageError

BATCH = 2
LENGTH = 16
AUDIO_SAMPLES = 16_000  # one second at 16 kHz
Inputs = tuple[dict[str, torch.Tensor], dict[str, dict[int, str]]]


def example_inputs(module: Any, config: Any, seed: int) -> Inputs:
    """(kwargs, dynamic axes) for one forward call; raises UsageError when the inputs cannot be told.

    Every input that the signature names and that this file knows is given, the main one by
    `module.main_input_name`; floating inputs are standard normal.
    """
    names = list(inspect.signature(module.forward).parameters)
    generator = torch.Generator().manual_seed(seed)
    values: dict[str, torch.Tensor] = {}
    dynamic: dict[str, dict[int, str]] = {}
    wanted = [
        name
        for name in ("input_ids", "pixel_values", "input_features", "input_values")
        if name in names
    ]
    main = getattr(module, "main_input_name", None)
    if main in wanted and "input_ids" not in names:
        wanted = [main]
    elif main in wanted and main != "input_ids" and "pixel_values" not in wanted:
        wanted = [main]  # an audio model: its text goes to the decoder
    for name in wanted:
        match name:
            case "input_ids":
                alone = wanted == ["input_ids"] and _writes_text(module, config)
                _add_text(names, config, generator, values, dynamic, alone)
            case "pixel_values":
                _add_image(config, generator, values, dynamic)
            case "input_features":
                _add_features(config, generator, values, dynamic)
            case _:
                values[name] = torch.randn(BATCH, AUDIO_SAMPLES, generator=generator)
                dynamic[name] = {0: "batch", 1: "length"}
    if not values:
        raise UsageError(
            f"porter cannot tell the inputs of {type(module).__name__}.forward({', '.join(names)}); "
            "describe them: --input NAME=float32[batch=2,3,224,224]"
        )
    if "decoder_input_ids" in names and getattr(config, "is_encoder_decoder", False):
        values["decoder_input_ids"] = _ids(config, LENGTH // 2, generator)
        dynamic["decoder_input_ids"] = {0: "batch", 1: "decoder_length"}
    return values, dynamic


def _writes_text(module: Any, config: Any) -> bool:
    """Whether it is a decoder that continues a text: its padding is the cache's business, not an input."""
    can_generate = getattr(module, "can_generate", None)
    if can_generate is None or getattr(config, "is_encoder_decoder", False):
        return False
    return bool(can_generate()) and getattr(module, "main_input_name", None) == "input_ids"


def _add_text(
    names: list[str],
    config: Any,
    generator: torch.Generator,
    values: dict[str, torch.Tensor],
    dynamic: dict[str, dict[int, str]],
    writes_text: bool,
) -> None:
    text = getattr(config, "text_config", None) or config
    longest = getattr(text, "max_position_embeddings", None)
    length = min(LENGTH, longest) if isinstance(longest, int) and longest > 1 else LENGTH
    values["input_ids"] = ids = _ids(text, length, generator)
    axes = {0: "batch", 1: "length"}
    dynamic["input_ids"] = dict(axes)
    if "attention_mask" in names and not writes_text:
        mask = torch.ones(BATCH, length, dtype=torch.int64)
        mask[-1, -(length // 4) :] = 0
        values["attention_mask"], dynamic["attention_mask"] = mask, dict(axes)
    # Text ends with its end token, where some models pool (CLIP) or count (BART).
    end = getattr(text, "eos_token_id", None)
    end = end[0] if isinstance(end, list) and end else end
    if isinstance(end, int) and 0 <= end < text.vocab_size:
        ids[:-1, -1] = end
        ids[-1, length - length // 4 - 1] = end
    if "token_type_ids" in names and (getattr(text, "type_vocab_size", 0) or 0) > 1:
        kinds = torch.zeros(BATCH, length, dtype=torch.int64)
        kinds[:, length // 2 :] = 1
        values["token_type_ids"], dynamic["token_type_ids"] = kinds, dict(axes)


def _ids(config: Any, length: int, generator: torch.Generator) -> torch.Tensor:
    """Token ids [2, length], none of which the configuration gives a meaning of its own (pad, eos, an image)."""
    vocabulary = getattr(config, "vocab_size", None) or getattr(
        getattr(config, "text_config", None), "vocab_size", 0
    )
    if not isinstance(vocabulary, int) or vocabulary < 1:
        raise UsageError(
            f"porter cannot tell the vocabulary of {type(config).__name__}; describe the ids: "
            "--input input_ids=int64[batch=2,length=16]"
        )
    special = set()
    for name, value in vars(config).items():
        if name.endswith(("_token_id", "_token_index")):
            special |= {
                item
                for item in (value if isinstance(value, list) else [value])
                if isinstance(item, int)
            }
    top = min(vocabulary, 30_000)
    ordinary = torch.tensor([item for item in range(top) if item not in special] or [0])
    # Ids over the first few: low ones are often special without the configuration saying so.
    ordinary = ordinary[len(ordinary) // 16 :]
    return ordinary[torch.randint(0, len(ordinary), (BATCH, length), generator=generator)]


def _add_image(
    config: Any,
    generator: torch.Generator,
    values: dict[str, torch.Tensor],
    dynamic: dict[str, dict[int, str]],
) -> None:
    vision = getattr(config, "vision_config", None) or config
    size = getattr(vision, "image_size", None) or 224
    if isinstance(size, dict):
        size = (size.get("height", 224), size.get("width", 224))
    height, width = (size, size) if isinstance(size, int) else tuple(size)[:2]
    channels = getattr(vision, "num_channels", None) or 3
    values["pixel_values"] = torch.randn(BATCH, channels, height, width, generator=generator)
    dynamic["pixel_values"] = {0: "batch", 2: "height", 3: "width"}


def _add_features(
    config: Any,
    generator: torch.Generator,
    values: dict[str, torch.Tensor],
    dynamic: dict[str, dict[int, str]],
) -> None:
    if bins := getattr(config, "num_mel_bins", None):
        frames = 2 * (getattr(config, "max_source_positions", None) or 512)
        values["input_features"] = torch.randn(BATCH, bins, frames, generator=generator)
        dynamic["input_features"] = {0: "batch"}
        return
    features = (
        getattr(config, "feature_projection_input_dim", None)
        or getattr(config, "input_dim", None)
        or 80
    )
    values["input_features"] = torch.randn(BATCH, 128, features, generator=generator)
    dynamic["input_features"] = {0: "batch", 1: "length"}
