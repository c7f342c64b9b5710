"""`timm:NAME`: an image model of timm, with random weights unless --checkpoint gives others."""

from __future__ import annotations

import inspect

import torch

from porter.errors import InputError
from porter.sources.built import built_source
from porter.sources.constructors import record_constructors
from porter.sources.inputs import random_tensor
from porter.sources.names import did_you_mean
from porter.sources.running import deterministic, foreign_code, import_extra
from porter.sources.source import Source, SourceOptions

BATCH = 2


def resolve_timm(spec: str, options: SourceOptions) -> Source:
    """Builds the model without downloading, and an image batch of the size it was made for."""
    name = spec.removeprefix("timm:")
    timm = import_extra("timm")
    # A name with a scheme of timm's own (hf-hub:, local-dir:) would download: only architectures are taken.
    architecture = name.partition(".")[0]
    known = timm.list_models()
    if architecture not in known:
        raise InputError(
            f"timm has no model {name!r}{did_you_mean(architecture, known)}; see timm.list_models()"
        )
    with (
        deterministic(options.seed),
        record_constructors() as log,
        foreign_code(spec, "check the name and its tag with timm.list_pretrained()"),
    ):
        module = timm.create_model(name, pretrained=False)
    settings = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None) or {}
    size = tuple(settings.get("input_size") or (3, 224, 224))
    image = random_tensor(
        torch.float32, (BATCH, *size), torch.Generator().manual_seed(options.seed)
    )
    dynamic = {0: "batch"}
    if len(size) == 3 and not settings.get("fixed_input_size", False):
        dynamic |= {2: "height", 3: "width"}
    return built_source(
        spec,
        options,
        "timm",
        architecture,
        module,
        (image,),
        {},
        {first_input(module): dynamic},
        log,
    )


def first_input(module: torch.nn.Module) -> str:
    """The name of the first argument of `module.forward`."""
    return next(iter(inspect.signature(module.forward).parameters))
