"""Example inputs for a transformers model, from its forward signature and configuration."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Any

import torch

from porter.errors import UsageError
from porter.sources.dry_run import dry_run, runs
from porter.sources.huggingface_pictures import (
    drop_decoder_states,
    features,
    logits_alone,
    pictured_inputs,
    tells_pictures,
)
from porter.sources.huggingface_shapes import BATCH, FRAMES, LENGTH, nested, setting, shapes_of
from porter.sources.huggingface_sized import sized_inputs
from porter.sources.huggingface_towers import tower_inputs

#: What a model of several modalities is given, where its signature has it.
_MODALITIES = ("input_ids", "pixel_values", "input_features", "input_values", "pixel_values_videos")
#: What some models need although their signature gives it a default.
_OPTIONAL = (
    "encoder_hidden_states", "input_features_mask", "visual_feats", "visual_pos", "actions", "rewards", "returns_to_go",
    "timesteps",
)  # fmt: skip
#: What a model draws at random where it is not given: its graph could not be compared.
_NOISE = ("noise_sequence",)
#: Shapes are tried together up to this many combinations.
_MOST_TRIED = 32


@dataclass(slots=True)
class Examples:
    """Values by input name, the names of their dynamic axes, and what the user should hear of the choice."""

    values: dict[str, torch.Tensor] = field(default_factory=dict)
    dynamic: dict[str, dict[int, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    why: str = ""  # pictures are not given as a text has them

    def add(self, name: str, value: torch.Tensor, axes: dict[int, str]) -> None:
        self.values[name] = value
        self.dynamic[name] = dict(axes)


def example_inputs(module: Any, config: Any, seed: int) -> Examples:
    """The inputs for one forward call; raises UsageError when they cannot be told.

    The main one is `module.main_input_name`; what else the signature demands, and what goes with it, is
    given too. Floating inputs are standard normal. Where an input's name leaves several shapes, the first that the
    module accepts is taken.
    """
    signature = inspect.signature(module.forward).parameters
    names = list(signature)
    required = [
        name
        for name, parameter in signature.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    generator = torch.Generator().manual_seed(seed)
    wanted = _wanted(module, names, required)
    examples = Examples()
    if _add_pictured(module, config, names, required, wanted, generator, examples):
        return examples
    if (tower := tower_inputs(module, config, required, generator)) is not None:
        return Examples(*tower)
    if "input_ids" in wanted:
        alone = not any(shapes_of(name, config) for name in wanted)
        writes = alone and _writes_text(module, config)
        _add_text(module, names, config, generator, examples, writes)
    for name in required:
        _add_partner(name, config, generator, examples)
    if "decoder_input_ids" in names and getattr(config, "is_encoder_decoder", False):
        ids = _ids(config, setting_of_decoder(config), LENGTH // 2, generator)
        examples.add("decoder_input_ids", ids, {0: "batch", 1: "decoder_length"})
    floats = {
        name: shapes
        for name in wanted
        if name not in examples.values and (shapes := shapes_of(name, config))
    }
    missing = [name for name in required if name not in examples.values and name not in floats]
    if missing or not (examples.values or floats):
        raise UsageError(
            f"porter cannot tell {', '.join(missing) or 'the inputs'} of {type(module).__name__}.forward("
            f"{', '.join(names)}); describe them: --input NAME=float32[batch=2,3,224,224]"
        )
    if not _add_floats(module, config, names, floats, generator, examples):
        _leave_text(module, config, names, generator, examples)
    _add_needed(module, config, names, generator, examples)
    if "decoder_input_ids" in examples.values:
        drop_decoder_states(module, examples.values)
    return examples


def _add_pictured(
    module: Any, config: Any, names: list[str], required: list[str], wanted: list[str],
    generator: torch.Generator, examples: Examples,
) -> bool:  # fmt: skip
    """Text with pictures or sounds in it, for a decoder that takes them so; else a note that there will be no cache.

    Where token types tell pictures from words the attention differs by them (PaliGemma, Gemma 3) or the positions (Qwen-VL).
    """
    token = _placeholder(config)
    floats = [name for name in wanted if shapes_of(name, config)]
    name = floats[0] if len(floats) == 1 else "pixel_values"
    if token is None or name not in floats or not _writes_text(module, config, ("input_ids", name)):
        return False
    kinds = [name for name in names if name.endswith("token_type_ids")]
    alone = not {*required} - {"input_ids", name}
    grid = "image_grid_thw" in names  # whose token types are those of M-RoPE
    known = hasattr(module, "model") and (grid or tells_pictures(module) is not None)
    typed = kinds[0] if kinds and known else None
    text = getattr(config, "text_config", None) or config
    ids = _ids(config, text, LENGTH, generator) if alone and (typed or not kinds) else None
    plain = ids is not None and floats == [name] and not grid
    given: Any = (module, token, ids, name, shapes_of(name, config), generator)
    found = pictured_inputs(*given) if plain else None
    sized: Any = f"its {name} come with more than their tokens"
    if ids is not None and found is None and name == "pixel_values":
        sized = sized_inputs(module, config, token, ids, typed, generator)
        if not isinstance(sized, str):
            (examples.values, examples.dynamic), examples.notes = sized
            return True
        found = pictured_inputs(*(*given, False)) if plain else None
    if found is None:
        examples.why = f"it reads {kinds[0]}" if kinds and not typed else sized
        note = f"no cache: {examples.why}, by which more than the tokens' features may differ"
        examples.notes = (note,)
        return False
    examples.values, examples.dynamic = found
    logits_alone(module, token, typed)
    return True


def _add_needed(
    module: Any, config: Any, names: list[str], generator: torch.Generator, examples: Examples
) -> None:
    """Where the module does not run with what its signature demands: what else is known, if it runs with that."""
    known = [name for name in names if name in _OPTIONAL and name not in examples.values]
    if not known or runs(module, examples.values):
        return
    trial = Examples(dict(examples.values), dict(examples.dynamic))
    for name in known:
        _add_partner(name, config, generator, trial)
        if runs(module, trial.values):
            examples.values, examples.dynamic = trial.values, trial.dynamic
            return


def _wanted(module: Any, names: list[str], required: list[str]) -> list[str]:
    """The inputs to give: the main ones, what is required, and with text the other modalities."""
    main = getattr(module, "main_input_name", None) or ""
    mains = [name for name in ([main] if isinstance(main, str) else main) if name in names]
    known = [name for name in _MODALITIES if name in names]
    chosen = list(dict.fromkeys([*required, *mains]))
    if "input_ids" in names and (not mains or mains == ["input_ids"] or "pixel_values" in mains):
        chosen += [name for name in known if name not in chosen and name != "pixel_values_videos"]
    return [*(chosen or known[:1]), *(name for name in _NOISE if name in names)]


def setting_of_decoder(config: Any) -> Any:
    """The configuration that holds the decoder's vocabulary."""
    return next(
        (part for key in ("decoder", "decoder_config", "text_config") if (part := getattr(config, key, None)) is not None),
        config,
    )  # fmt: skip


def _writes_text(module: Any, config: Any, main: tuple[str, ...] = ("input_ids",)) -> bool:
    """Whether it is a decoder that continues a text: its padding is the cache's business, not an input.

    `main` is what its main input may be: that of one that is told of a picture in its text is the picture.
    """
    can_generate = getattr(module, "can_generate", None)
    if can_generate is None or getattr(config, "is_encoder_decoder", False):
        return False
    return bool(can_generate()) and getattr(module, "main_input_name", None) in main


def _add_text(
    module: Any,
    names: list[str],
    config: Any,
    generator: torch.Generator,
    examples: Examples,
    writes_text: bool,
) -> None:
    text = setting(config, "text_config") or config
    longest = getattr(text, "max_position_embeddings", None)
    length = _unusual(module, text) if writes_text else LENGTH
    length = min(length, longest) if isinstance(longest, int) and longest > 1 else length
    ids = _ids(config, text, length, generator)
    axes = {0: "batch", 1: "length"}
    examples.add("input_ids", ids, axes)
    if "attention_mask" in names and not writes_text:
        mask = torch.ones(BATCH, length, dtype=torch.int64)
        mask[-1, -(length // 4) :] = 0
        examples.add("attention_mask", mask, axes)
    # Text ends with its end token, where some models pool (CLIP) or count (BART).
    end = getattr(text, "eos_token_id", None)
    end = end[0] if isinstance(end, list) and end else end
    if isinstance(end, int) and 0 <= end < (_vocabulary(text) or 0):
        ids[:-1, -1] = end
        ids[-1, length - length // 4 - 1] = end
    if "token_type_ids" in names and (getattr(text, "type_vocab_size", 0) or 0) > 1:
        kinds = torch.zeros(BATCH, length, dtype=torch.int64)
        kinds[:, length // 2 :] = 1
        examples.add("token_type_ids", kinds, axes)
    if "bbox" in names:
        corners = torch.randint(0, 100, (BATCH, length, 2), generator=generator)
        sizes = torch.randint(1, 50, (BATCH, length, 2), generator=generator)
        boxes = torch.cat([corners, corners + sizes], dim=-1)
        top = setting(config, "max_2d_position_embeddings")
        examples.add("bbox", boxes.clamp(max=top - 1) if isinstance(top, int) else boxes, axes)


def _unusual(module: Any, config: Any) -> int:
    """A number of tokens that is no size of a parameter or of a head, so that a graph which is fixed to it tells it apart."""
    sizes = {size for p in module.parameters() for size in p.shape}
    settings = config.to_dict() if hasattr(config, "to_dict") else {}
    heads = {n for name, n in settings.items() if "heads" in name and isinstance(n, int) and n > 1}
    sizes |= {size // n for size in sizes for n in heads}
    return next(n for n in (LENGTH, 23, 29, 31, 37, *range(41, 99, 2)) if n not in sizes)


def _add_partner(name: str, config: Any, generator: torch.Generator, examples: Examples) -> None:
    """A required input that is no picture, sound or text of its own: masks, ids of another text."""
    ids = examples.values.get("input_ids")
    length = ids.shape[1] if ids is not None else LENGTH
    axes = {0: "batch", 1: "length"}
    if name in examples.values:
        return
    if name.endswith("input_ids"):
        part = next((p for p in nested(config) if name.split("_")[0] in p.model_type), config)
        examples.add(name, _ids(config, part, length, generator), axes)
    elif name.endswith("past_observed_mask"):
        steps = shapes_of("past_values", config)[0][0]
        examples.add(name, torch.ones(steps), {0: "batch"})
    elif name in ("input_features_mask", "audio_mel_mask"):
        sound = examples.values.get("input_features")
        frames = max(sound.shape[1:]) if sound is not None else FRAMES
        examples.add(name, torch.ones(BATCH, frames, dtype=torch.int64), axes)
    elif name == "encoder_hidden_states":
        width = setting(config, "encoder_hidden_size", "hidden_size")
        states = torch.randn(BATCH, LENGTH // 2, width, generator=generator)
        examples.add(name, states, {0: "batch", 1: "encoder_length"})
    elif name == "visual_feats":
        width = setting(config, "visual_feat_dim")
        examples.add(name, torch.randn(BATCH, 4, width, generator=generator), {0: "batch"})
    elif name == "visual_pos":
        examples.add(name, torch.rand(BATCH, 4, 4, generator=generator), {0: "batch"})
    elif name == "timesteps":
        examples.add(name, torch.arange(LENGTH).repeat(BATCH, 1), axes)
    elif name in _OPTIONAL and (shapes := shapes_of(name, config)):
        shape, axes = shapes[0]
        examples.add(name, torch.randn(shape, generator=generator), axes)


def _vocabulary(config: Any) -> int | None:
    for key in ("vocab_size", "text_vocab_size"):
        value = getattr(config, key, None)
        if isinstance(value, int) and value > 0:
            return value
    value = setting(config, "vocab_size")
    return value if isinstance(value, int) and value > 0 else None


def _ids(root: Any, config: Any, length: int, generator: torch.Generator) -> torch.Tensor:
    """Ids [2, length] of the vocabulary of `config`, none of which has a meaning of its own (pad, eos, an image)."""
    vocabulary = _vocabulary(config)
    if vocabulary is None and setting(config, "num_hash_buckets"):
        vocabulary = 1 << 16  # ids are hashed characters
    if vocabulary is None:
        raise UsageError(
            f"porter cannot tell the vocabulary of {type(config).__name__}; describe the ids: "
            "--input input_ids=int64[batch=2,length=16]"
        )
    special = set()
    for part in nested(root):
        for name, value in vars(part).items():
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


def _add_floats(
    module: Any, config: Any, names: list[str], floats: dict[str, list[Any]], generator: torch.Generator,
    examples: Examples,
) -> bool:  # fmt: skip
    """Gives each floating input the first of its shapes with which the module runs; False where only text is left."""
    if not floats:
        return True
    combinations = list(islice(product(*floats.values()), _MOST_TRIED))
    chosen = combinations[0]
    if len(combinations) > 1 or _placeholder(config) is not None:
        for shapes in combinations:
            trial = Examples(dict(examples.values), dict(examples.dynamic))
            _fill(dict(zip(floats, shapes, strict=True)), names, generator, trial)
            if _place_features(module, config, trial) and runs(module, trial.values):
                chosen = shapes
                break
        else:
            if "input_ids" in examples.values and runs(module, examples.values):
                examples.notes = (
                    f"the port takes text alone: porter cannot give an example of {', '.join(floats)}"
                    f"{examples.why and f' ({examples.why})'}; describe it with --input",
                )
                return False
    _fill(dict(zip(floats, chosen, strict=True)), names, generator, examples)
    _place_features(module, config, examples)
    return True


def _leave_text(
    module: Any, config: Any, names: list[str], generator: torch.Generator, examples: Examples
) -> None:
    """A decoder that is given text alone leaves padding to the cache, as one that knows nothing else does."""
    if not _writes_text(module, config):
        return
    alone = Examples()
    _add_text(module, names, config, generator, alone, writes_text=True)
    if runs(module, alone.values):
        examples.values, examples.dynamic = alone.values, alone.dynamic


def _fill(
    shapes: dict[str, Any], names: list[str], generator: torch.Generator, examples: Examples
) -> None:
    for name, (shape, axes) in shapes.items():
        value = torch.randn(shape, generator=generator)
        if name == "flattened_patches":
            value[..., :2] = torch.randint(1, shape[1], (*shape[:2], 2), generator=generator)
        examples.add(name, value, axes)
        for mask, dims in ((f"{name}_mask", 2), (name.replace("values", "attention_mask"), 0)):
            if (
                mask in names
                and mask != name
                and dims
                and len(shape) > 1
                and mask not in examples.values
            ):
                axis = next((a for a, dim in axes.items() if dim == "length"), None)
                if axis is not None:
                    ones = torch.ones(shape[0], shape[axis], dtype=torch.int64)
                    examples.add(mask, ones, {0: "batch", 1: "length"})


def _placeholder(config: Any) -> int | None:
    """The token in whose places a picture's or a sound's features go."""
    kinds = ("image", "audio", "video")
    value = setting(
        config, *(f"{kind}_{key}" for kind in kinds for key in ("token_id", "token_index"))
    )
    return value if isinstance(value, int) else None


def _place_features(module: Any, config: Any, examples: Examples) -> bool:
    """Puts as many placeholder tokens before the text as one sample has features; False where that can't be told."""
    ids = examples.values.get("input_ids")
    for kind, name in (
        ("image", "pixel_values"),
        ("audio", "input_features"),
        ("audio", "input_values"),
    ):
        token = setting(config, f"{kind}_token_id", f"{kind}_token_index")
        method = f"get_{kind}_features"
        if ids is None or name not in examples.values or token is None:
            continue
        owner = next((part for part in module.modules() if hasattr(part, method)), None)
        if owner is None:
            return False
        takes = inspect.signature(getattr(owner, method)).parameters
        given = {key: value for key, value in examples.values.items() if key in takes}
        try:
            count = features(dry_run(owner, method, given)) // BATCH
        except Exception:  # noqa: BLE001 -- the shapes are wrong, or the number depends on the data
            return False
        places = torch.full((BATCH, count), token)
        examples.add("input_ids", torch.cat([places, ids], dim=1), {0: "batch"})
        for other, first in (("attention_mask", 1), ("token_type_ids", 0)):
            if (old := examples.values.get(other)) is not None:
                before = torch.full((BATCH, count), first)
                examples.add(other, torch.cat([before, old], dim=1), {0: "batch"})
    return True
