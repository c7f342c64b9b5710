"""Example inputs for a transformers model, from its forward signature and configuration."""

from __future__ import annotations

import inspect
from itertools import islice, product
from typing import Any

import torch

from porter.errors import UsageError
from porter.sources.documented_inputs import documented, documented_shape, documented_value
from porter.sources.dry_run import dry_run, runs
from porter.sources.examples import Examples
from porter.sources.huggingface_pictures import (
    drop_decoder_states,
    features,
    logits_alone,
    pictured_inputs,
    tells_pictures,
)
from porter.sources.huggingface_shapes import BATCH, FRAMES, LENGTH, nested, setting, shapes_of
from porter.sources.huggingface_sized import sized_inputs
from porter.sources.huggingface_text import add_channels, add_text, setting_of_decoder, token_ids
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
        add_text(module, names, config, generator, examples, writes)
    for name in required:
        boolean = "BoolTensor" in str(signature[name].annotation)
        _add_partner(name, config, generator, examples, boolean)
    if "decoder_input_ids" in names and getattr(config, "is_encoder_decoder", False):
        ids = token_ids(config, setting_of_decoder(config), LENGTH // 2, generator)
        examples.add("decoder_input_ids", ids, {0: "batch", 1: "decoder_length"})
    add_channels(module, config, generator, examples)
    floats = {
        name: _likeliest(module, name, shapes)
        for name in wanted
        if name not in examples.values and (shapes := shapes_of(name, config))
    }
    missing = [name for name in required if name not in examples.values and name not in floats]
    told = [name for name in missing if documented(module, name) is not None]
    missing = [name for name in missing if name not in told]
    takes_text = _add_floats(module, config, names, floats, told, generator, examples)
    missing += [name for name in told if name not in examples.values]
    if missing or not examples.values:
        raise UsageError(
            f"porter cannot tell {', '.join(missing) or 'the inputs'} of {type(module).__name__}.forward("
            f"{', '.join(names)}); describe them: --input NAME=float32[batch=2,3,224,224]"
        )
    if takes_text:
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
    ids = token_ids(config, text, LENGTH, generator) if alone and (typed or not kinds) else None
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
    trial = examples.copy()
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


def _writes_text(module: Any, config: Any, main: tuple[str, ...] = ("input_ids",)) -> bool:
    """Whether it is a decoder that continues a text: its padding is the cache's business, not an input.

    `main` is what its main input may be: that of one that is told of a picture in its text is the picture.
    """
    can_generate = getattr(module, "can_generate", None)
    if can_generate is None or getattr(config, "is_encoder_decoder", False):
        return False
    return bool(can_generate()) and getattr(module, "main_input_name", None) in main


def _add_partner(
    name: str, config: Any, generator: torch.Generator, examples: Examples, boolean: bool = False
) -> None:
    """A required input that is no picture, sound or text of its own: masks, `boolean` or of ones, ids of another text."""
    ids = examples.values.get("input_ids")
    length = ids.shape[1] if ids is not None else LENGTH
    axes = {0: "batch", 1: "length"}
    if name in examples.values:
        return
    if name.endswith("input_ids"):
        part = next((p for p in nested(config) if name.split("_")[0] in p.model_type), config)
        examples.add(name, token_ids(config, part, length, generator), axes)
    elif name.endswith("past_observed_mask"):
        steps = shapes_of("past_values", config)[0][0]
        examples.add(name, torch.ones(steps), {0: "batch"})
    elif name in ("input_features_mask", "audio_mel_mask"):
        sound = examples.values.get("input_features")
        frames = max(sound.shape[1:]) if sound is not None else FRAMES
        kind = torch.bool if boolean else torch.int64
        examples.add(name, torch.ones(BATCH, frames, dtype=kind), axes)
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


def _likeliest(module: Any, name: str, shapes: list[Any]) -> list[Any]:
    """The shapes with as many axes as the documentation says come first."""
    told = documented(module, name)
    return sorted(shapes, key=lambda shape: told is not None and len(shape[0]) != len(told.sizes))


def _add_floats(
    module: Any, config: Any, names: list[str], floats: dict[str, list[Any]], told: list[str],
    generator: torch.Generator, examples: Examples,
) -> bool:  # fmt: skip
    """Gives each floating input the first of its shapes with which the module runs, and what is `told` by documentation.

    True where it runs with none of them, and with text alone.
    """
    combinations = list(islice(product(*floats.values()), _MOST_TRIED))
    chosen = combinations[0]
    if len(combinations) > 1 or (floats and _placeholder(config) is not None):
        for shapes in combinations:
            trial = examples.copy()
            _fill(dict(zip(floats, shapes, strict=True)), names, generator, trial)
            _add_told(module, config, told, generator, trial)
            if _place_features(module, config, trial) and runs(module, trial.values):
                chosen = shapes
                break
        else:
            trial = examples.copy()
            _fill(dict(zip(floats, chosen, strict=True)), names, generator, trial)
            if _as_documented(module, config, list(floats), names, generator, trial):
                examples.values, examples.dynamic = trial.values, trial.dynamic
                return False
            if "input_ids" in examples.values and runs(module, examples.values):
                examples.notes = (
                    f"the port takes text alone: porter cannot give an example of {', '.join(floats)}"
                    f"{examples.why and f' ({examples.why})'}; describe it with --input",
                )
                return True
    _fill(dict(zip(floats, chosen, strict=True)), names, generator, examples)
    _add_told(module, config, told, generator, examples)
    _place_features(module, config, examples)
    return False


def _as_documented(
    module: Any, config: Any, floats: list[str], names: list[str], generator: torch.Generator, trial: Examples
) -> bool:  # fmt: skip
    """Whether the module runs where floating inputs have the shapes that its documentation says in terms of the others."""
    found: dict[str, Any] = {}
    for name in floats:
        others = {key: value for key, value in trial.values.items() if key != name}
        shape = documented_shape(module, config, name, others, trial.dynamic)
        if shape is not None and shape[0] != trial.values[name].shape:
            found[name] = shape
    _fill(found, names, generator, trial)
    return bool(found) and runs(module, trial.values)


def _add_told(
    module: Any, config: Any, told: list[str], generator: torch.Generator, examples: Examples
) -> None:
    """What the module's documentation tells the shape of, as far as it does."""
    for name in told:
        found = documented(module, name)
        shape = documented_shape(module, config, name, examples.values, examples.dynamic)
        if found is not None and shape is not None:
            value = documented_value(name, found.kind, shape[0], generator)
            examples.add(name, value, shape[1])


def _leave_text(
    module: Any, config: Any, names: list[str], generator: torch.Generator, examples: Examples
) -> None:
    """A decoder that is given text alone leaves padding to the cache, as one that knows nothing else does."""
    if not _writes_text(module, config):
        return
    alone = Examples()
    add_text(module, names, config, generator, alone, writes_text=True)
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
