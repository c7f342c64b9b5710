"""transformers: every model type that has a class, at a small random configuration; causal decoders last, as plain forwards."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.zoo.case import Built, Case
from benchmarks.zoo.config_changes import CHANGES
from benchmarks.zoo.small_configs import candidates
from porter.sources.huggingface_model import EXPERTS, leave_caches_out

PRELOAD = ("transformers", "transformers.modeling_utils", "transformers.models.auto.modeling_auto")
#: A model over this many parameters is not run here.
MOST_PARAMETERS = 80_000_000
#: Mappings of bare models and of those with a head, in the order in which a type's class is looked for.
MAPPINGS = (
    "MODEL", "MODEL_FOR_CAUSAL_LM", "MODEL_FOR_MULTIMODAL_LM", "MODEL_FOR_IMAGE_TEXT_TO_TEXT",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM", "MODEL_FOR_SPEECH_SEQ_2_SEQ", "MODEL_FOR_MASKED_LM",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION", "MODEL_FOR_IMAGE_CLASSIFICATION", "MODEL_FOR_BACKBONE",
)  # fmt: skip
#: One case more for each of these heads, on the types named, so that every kind of head is there.
HEADS = {
    "MODEL_FOR_MASKED_LM": 8, "MODEL_FOR_SEQUENCE_CLASSIFICATION": 8, "MODEL_FOR_TOKEN_CLASSIFICATION": 6,
    "MODEL_FOR_QUESTION_ANSWERING": 6, "MODEL_FOR_MULTIPLE_CHOICE": 3, "MODEL_FOR_IMAGE_CLASSIFICATION": 50,
    "MODEL_FOR_SEMANTIC_SEGMENTATION": 12, "MODEL_FOR_DEPTH_ESTIMATION": 10, "MODEL_FOR_OBJECT_DETECTION": 20,
    "MODEL_FOR_UNIVERSAL_SEGMENTATION": 8, "MODEL_FOR_AUDIO_CLASSIFICATION": 6, "MODEL_FOR_CTC": 8,
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM": 12, "MODEL_FOR_SPEECH_SEQ_2_SEQ": 6, "MODEL_FOR_VIDEO_CLASSIFICATION": 6,
    "MODEL_FOR_IMAGE_TO_IMAGE": 2, "MODEL_FOR_BACKBONE": 40, "MODEL_FOR_MASKED_IMAGE_MODELING": 6,
}  # fmt: skip
#: A type that one of these has is more than a causal decoder (bart and bert are among the causal ones too).
NOT_CAUSAL = ("MODEL_FOR_MASKED_LM", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM", "MODEL_FOR_SPEECH_SEQ_2_SEQ")


def cases() -> Iterator[Case]:
    """Types that are no causal decoders, then heads, then causal decoders."""
    from transformers.models.auto import modeling_auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    decoders = {
        name: found
        for name, found in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()
        if not any(name in getattr(modeling_auto, f"{other}_MAPPING_NAMES") for other in NOT_CAUSAL)
    }
    types = sorted(CONFIG_MAPPING_NAMES, key=lambda name: (name in decoders, name))
    for name in types:
        if (cls := _class_name(name)) is not None and name not in decoders:
            yield Case(name, partial(build, name, cls))
    for mapping, most in HEADS.items():
        table = getattr(modeling_auto, f"{mapping}_MAPPING_NAMES")
        chosen = [
            name
            for name in sorted(table)
            if name not in decoders and _name(table[name]) != _class_name(name)
        ]
        for name in chosen[:most]:
            yield Case(
                f"{name}.{mapping.removeprefix('MODEL_').lower()}",
                partial(build, name, _name(table[name])),
            )
    for name in types:
        if name in decoders:
            yield Case(name, partial(build, name, _name(decoders[name])))


def build(
    kind: str, cls: str, wanted: Callable[[dict[str, torch.Tensor]], bool] = lambda _: True
) -> Built:
    """The class at the smallest configuration that runs with inputs that are `wanted`, or with any."""
    import transformers

    from porter.sources.huggingface_inputs import example_inputs

    reasons: list[str] = []
    first: Built | None = None
    for _, config in candidates(transformers.CONFIG_MAPPING[kind], CHANGES.get(kind, {})):
        try:
            module = _instance(getattr(transformers, cls), config)
            inputs = example_inputs(module, config, 0)
            with torch.no_grad():
                module(**inputs.values)
        except Exception as error:  # noqa: BLE001 -- a configuration that does not fit fails anywhere
            reasons.append(f"{type(error).__name__}: {error}"[:200])
            continue
        built = Built(module, (), inputs.values, inputs.dynamic)
        if wanted(inputs.values):
            return built
        first = first or built
    if first is not None:
        return first
    told = [reason for reason in dict.fromkeys(reasons) if not reason.endswith("parameters")]
    raise RuntimeError(f"no small configuration runs: {'; '.join((told or reasons)[-2:])}")


def _instance(cls: Any, config: Any) -> torch.nn.Module:
    leave_caches_out(config)
    options = {"attn_implementation": "sdpa", "experts_implementation": EXPERTS}
    try:
        with torch.device("meta"):
            empty = cls._from_config(config, **options)
    except ValueError as error:
        if "attention" not in str(error):
            raise
        options["attn_implementation"] = "eager"
        with torch.device("meta"):
            empty = cls._from_config(config, **options)
    count = sum(parameter.numel() for parameter in empty.parameters())
    if count > MOST_PARAMETERS:
        raise ValueError(f"{count} parameters")
    torch.manual_seed(0)
    module: torch.nn.Module = cls._from_config(config, **options).float().eval()
    return module


@functools.cache
def _class_name(kind: str) -> str | None:
    from transformers.models.auto import modeling_auto

    for mapping in MAPPINGS:
        found = getattr(modeling_auto, f"{mapping}_MAPPING_NAMES").get(kind)
        if found is not None:
            return _name(found)
    for name, table in vars(modeling_auto).items():
        if name.startswith("MODEL_FOR_") and name.endswith("_MAPPING_NAMES") and kind in table:
            return _name(table[kind])
    return None


def _name(entry: Any) -> str:
    return entry if isinstance(entry, str) else entry[0]
