"""transformers' encoder-decoders at small random configurations, with the caches of the port and what it writes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.zoo.case import Built, Case
from benchmarks.zoo.suites import transformers as whole

PRELOAD = whole.PRELOAD
__all__ = ["PRELOAD", "cases"]
MAPPINGS = ("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM", "MODEL_FOR_SPEECH_SEQ_2_SEQ")
#: What most users ask for comes first.
FIRST = "t5 mt5 bart whisper marian mbart pegasus m2m_100 blenderbot t5gemma".split()


def cases() -> Iterator[Case]:
    """Every type of the mappings that write one text of another, or of speech."""
    from transformers.models.auto import modeling_auto

    known = {
        name: whole._name(found)
        for mapping in MAPPINGS
        for name, found in getattr(modeling_auto, f"{mapping}_MAPPING_NAMES").items()
    }
    for name in [*FIRST, *sorted(set(known) - set(FIRST))]:
        yield Case(name, partial(build, name, known[name]))


def build(kind: str, cls: str) -> Built:
    """The class at the smallest configuration that runs."""
    return whole.build(kind, cls)
