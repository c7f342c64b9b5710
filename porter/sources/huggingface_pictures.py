"""Example inputs of a decoder that reads pictures or sounds in its text: pixels or spectra, and ids with their placeholders."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch

from porter.sources.dry_run import FixedSize, dry_run, runs
from porter.sources.huggingface_shapes import Shape

#: More than samples, so that texts have different numbers of pictures and none is taken for the other.
PICTURES = 3

Inputs = tuple[dict[str, torch.Tensor], dict[str, dict[int, str]]]


#: The method that works out the features of an input, and how many axes one picture or sound has in it.
_FEATURES = {"pixel_values": ("get_image_features", 3), "input_features": ("get_audio_features", 2)}


def pictured_inputs(
    module: Any, token: int, ids: torch.Tensor, name: str, shapes: list[Shape], generator: torch.Generator,
    any_number: bool = True,
) -> Inputs | None:  # fmt: skip
    """Ids (2, length) with three pictures, two in the first text, and the pixels (3, channels, height, width); or sounds.

    `ids` (2, n) are the words, `token` stands in the place of each of a picture's features. The words come last, so that a
    shorter text still has its pictures. With `any_number` the graph must be one for any number of them.

    None where the module takes its pictures in another form.
    """
    method, rank = _FEATURES.get(name, ("", 0))
    owner = next((m for m in (module, getattr(module, "model", None)) if hasattr(m, method)), None)
    if owner is None:
        return None
    takes = inspect.signature(getattr(owner, method)).parameters
    if name not in takes and not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        return None
    chosen = {
        n: getattr(module.config, n)
        for n in takes
        if n.startswith("vision_feature_layer") and hasattr(module.config, n)
    }
    for shape, axes in shapes:
        if len(shape) != rank + 1 or axes.get(0) != "batch":
            continue
        given = {name: torch.randn((PICTURES, *shape[1:]), generator=generator)}
        try:
            found = dry_run(owner, method, {**given, **chosen})
            count, rest = divmod(features(found), PICTURES)
        except Exception:  # noqa: BLE001, S112 -- the shapes are wrong, or the number depends on the data
            continue
        if rest or not count:
            continue
        values = {"input_ids": texts_with_pictures(ids, token, count), **given}
        if any_number and _is_fixed(owner, method, name, {**given, **chosen}):
            continue
        if runs(module, values):
            return values, {
                "input_ids": {0: "batch", 1: "length"},
                name: {0: "pictures" if rank == 3 else "sounds"},
            }
    return None


def _is_fixed(owner: Any, method: str, name: str, given: dict[str, Any]) -> bool:
    """Whether the graph would be that of one number of pictures: the source goes through them, or has a place for each."""
    from porter.frontends.whole_functions import NotJoined, joined_rows

    try:
        with joined_rows():
            dry_run(owner, method, given, free=name)
    except (FixedSize, NotJoined):
        return True
    except Exception:  # noqa: BLE001 -- an export may still know better
        return False
    return False


def texts_with_pictures(ids: torch.Tensor, token: int, count: int) -> torch.Tensor:
    """Two texts of the words `ids` with three pictures, of `count` features each, two in the first."""
    words = ids.repeat(1, 1 + 2 * count // ids.shape[1])
    place = torch.full((count,), token)
    first = torch.cat([words[0, :1], place, words[0, :2], place, words[0, 2:]])
    second = torch.cat([words[1, :3], place, words[1].repeat(2)])[: len(first)]
    return torch.stack([first, second])


def features(result: Any) -> int:
    """How many feature vectors a model returned for all its pictures."""
    named = (getattr(result, name, None) for name in ("pooler_output", "last_hidden_state"))
    found = next((value for value in named if value is not None), result)
    if isinstance(found, (list, tuple)):
        return sum(features(item) for item in found)
    return int(found.numel() // found.shape[-1])


def tells_pictures(module: Any) -> bool | None:
    """Whether token types are 1 where a picture's features are; else they tell the prompt, 0, from what follows it.

    That is the processor's to know. None where there is none.
    """
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    name = PROCESSOR_MAPPING_NAMES.get(module.config.model_type)
    processor = getattr(transformers, name, None) if name else None
    return getattr(processor, "return_mm_token_type_ids", None)


def logits_alone(module: Any, token: int, kinds: str | None = None) -> None:
    """The module returns logits and no features beside them, as its text alone would.

    With pictures the model in it is given the token types `kinds` that its processor makes of a prompt, in which `token`
    stands for features.
    """
    cls: Any = type(module)

    @functools.wraps(cls.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return {"logits": cls.forward(self, *args, **kwargs)["logits"]}

    derive(module, forward)
    if kinds is None:
        return
    mark, inner = tells_pictures(module), module.model
    inner_forward = type(inner).forward

    @functools.wraps(inner_forward)
    def typed(self: Any, *, input_ids: Any, pixel_values: Any = None, **kwargs: Any) -> Any:
        if pixel_values is not None:
            kwargs[kinds] = (input_ids == token if mark else input_ids < 0).int()
        return inner_forward(self, input_ids=input_ids, pixel_values=pixel_values, **kwargs)

    typed.__name__ = "forward"
    derive(inner, typed)


def drop_decoder_states(module: Any, values: dict[str, torch.Tensor]) -> None:
    """An encoder-decoder that writes text returns no hidden states of its decoder beside the logits they are made into."""
    states = "decoder_hidden_states"
    if not getattr(module, "can_generate", lambda: False)():
        return
    try:
        found = dry_run(module, "__call__", values)
        if found["logits"] is None or found[states] is None:
            return
    except Exception:  # noqa: BLE001 -- it has no such outputs, or its run depends on the data
        return
    cls: Any = type(module)

    @functools.wraps(cls.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = cls.forward(self, *args, **kwargs)
        return type(result)(**{name: result[name] for name in result if name != states})

    derive(module, forward)


def derive(module: Any, *methods: Any) -> None:
    """Gives the module these methods; its class keeps the name that it has."""
    cls = type(module)
    names = {method.__name__: method for method in methods}
    names |= {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    module.__class__ = type(cls.__name__, (cls,), names)
