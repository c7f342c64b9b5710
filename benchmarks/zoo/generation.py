"""Texts that a port writes against those that transformers' `generate` writes with the same weights."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import torch

from porter.generate import encodes, generate
from porter.validate import decoding
from porter.validate.metrics import Array

TOKENS = 16
#: Of the largest logit: two words closer than this are a tie.
TIE = 1e-4
TOLERANCE = 1e-4


def writes(model: Any) -> bool:
    """Whether the port has a `generate`."""
    return encodes(model)


def columns(
    model: Any, names: list[str], inputs: list[mx.array], module: Any, given: dict[str, Any]
) -> dict[str, Any]:  # fmt: skip
    """`decode`: token by token equals the whole; `greedy`: the tokens are those of transformers but for ties.

    A module without a head over words has no `greedy`.
    """
    kinds = {type(part).__name__ for cache in model.make_cache() for part in cache.caches}
    found: dict[str, Any] = {"caches": ", ".join(sorted(kinds))}
    found["decode"] = decoding.decoded_after(model, inputs)["gaps"][0] <= TOLERANCE
    if not module.can_generate():
        return found
    text = next(name for name in names if name.startswith("decoder"))
    given = {name: value for name, value in given.items() if name != text}
    start = torch.full((next(iter(given.values())).shape[0], 1), 7)
    named = dict(zip(names, inputs, strict=True))
    ours = np.array(generate(model, named, mx.array(start.numpy()), max_tokens=TOKENS))
    theirs = _generated(module, given)
    found["greedy"] = _same_but_for_ties(ours, theirs, module, {**given, "name": text})
    return found


def _generated(module: Any, given: dict[str, Any]) -> Array:
    from transformers import GenerationConfig
    from transformers.generation.utils import GenerationMixin

    module.generation_config = GenerationConfig(
        decoder_start_token_id=7, max_length=1 + TOKENS, min_length=1 + TOKENS, do_sample=False,
        num_beams=1, pad_token_id=0,
    )  # fmt: skip
    with torch.no_grad():
        result = GenerationMixin.generate(module, **given)
    return np.asarray(getattr(result, "sequences", result))


def _same_but_for_ties(
    ours: Array, theirs: Array, module: torch.nn.Module, given: dict[str, Any]
) -> bool:
    """Each row, up to the first token that differs; that one must be a tie in torch."""
    text = given.pop("name")
    for row, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        differs = np.flatnonzero(a != b)
        if not len(differs):
            continue
        place = int(differs[0])
        with torch.no_grad():
            whole = torch.from_numpy(theirs[:, :place].copy())
            logits = module(**given, **{text: whole}).logits[row, -1].double()
        top = logits.max()
        if (top - logits[int(a[place])]) > TIE * top.abs():
            return False
    return True
