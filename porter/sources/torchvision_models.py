"""`torchvision:NAME`: a classification or segmentation model of torchvision, with random weights."""

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
from porter.sources.timm_models import BATCH, first_input

IMAGE = (3, 224, 224)


def resolve_torchvision(spec: str, options: SourceOptions) -> Source:
    """Builds the model without downloading, and a batch of 224 x 224 images."""
    name = spec.removeprefix("torchvision:")
    models = import_extra("torchvision.models", "torchvision")
    images = models.list_models(models) + models.list_models(models.segmentation)
    if name not in images:
        if name in models.list_models():
            raise InputError(
                f"torchvision:{name} is not an image classifier or segmenter; "
                "write a factory that returns it with example inputs, and give FILE.py:FACTORY"
            )
        raise InputError(
            f"torchvision has no model {name!r}{did_you_mean(name, images)}; see torchvision's models"
        )
    builder = models.get_model_builder(name)
    # A segmenter's backbone would be downloaded unless told otherwise.
    none = {
        key: None
        for key in ("weights", "weights_backbone")
        if key in inspect.signature(builder).parameters
    }
    with (
        deterministic(options.seed),
        record_constructors() as log,
        foreign_code(spec, "check the torchvision installation"),
    ):
        module = builder(**none)
    image = random_tensor(
        torch.float32, (BATCH, *IMAGE), torch.Generator().manual_seed(options.seed)
    )
    dynamic = {first_input(module): {0: "batch", 2: "height", 3: "width"}}
    return built_source(spec, options, "torchvision", name, module, (image,), {}, dynamic, log)
