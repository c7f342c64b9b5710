"""transformers' decoders that read pictures in their text, at small random configurations."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.zoo.case import Built, Case
from benchmarks.zoo.suites import transformers as whole

PRELOAD = whole.PRELOAD
__all__ = ["PRELOAD", "cases"]
#: What most users ask for comes first.
FIRST = "llava llava_next qwen2_vl qwen2_5_vl paligemma gemma3 idefics3 smolvlm internvl mistral3 aya_vision".split()


def cases() -> Iterator[Case]:
    """Every type of the mapping that writes text of pictures and text."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as NAMES,
    )

    for name in [*FIRST, *sorted(set(NAMES) - set(FIRST))]:
        if name in NAMES:
            yield Case(name, partial(build, name, whole._name(NAMES[name])))


def build(kind: str, cls: str) -> Built:
    """The class at the smallest configuration that runs with pictures; where none does, with text alone."""
    return whole.build(
        kind, cls, lambda inputs: any(x.is_floating_point() for x in inputs.values())
    )
