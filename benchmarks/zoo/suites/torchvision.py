"""torchvision: every name of its registry."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.zoo.case import Built, Case
from porter.sources.timm_models import first_input

PRELOAD = ("torchvision",)
BATCH, SIDE = 2, 160
FIXED = ("vit_", "maxvit")  # made for one size of image


def cases() -> Iterator[Case]:
    from torchvision import models

    for name in models.list_models():
        yield Case(name, partial(build, name))


def build(name: str) -> Built:
    from torchvision import models

    builder = models.get_model_builder(name)
    takes = inspect.signature(builder).parameters
    options: dict[str, Any] = {key: None for key in ("weights", "weights_backbone") if key in takes}
    if name in ("googlenet", "inception_v3", "quantized_googlenet", "quantized_inception_v3"):
        options["init_weights"] = False
    kind = builder.__module__.split(".")[2]
    if kind == "detection" and not name.startswith("ssd"):
        options |= {"min_size": 160, "max_size": 192}  # what images are resized to, 800 by default
    module = builder(**options)
    if kind == "optical_flow":
        pair = tuple(torch.rand(BATCH, 3, 128, 160) * 2 - 1 for _ in range(2))
        return Built(module.eval(), pair)
    if kind == "video":
        large = name.startswith(("mvit", "swin3d", "s3d"))  # made for such clips
        size = (16, 224, 224) if large else (8, 112, 112)
        return Built(module, (torch.randn(1, 3, *size),))
    if kind == "detection":
        return Built(module, ([torch.rand(3, 160, 192)],))
    fixed = name.startswith(FIXED)
    side = 224 if fixed else SIDE
    dims = {0: "batch"} | ({} if fixed else {2: "height", 3: "width"})
    image = torch.randn(BATCH, 3, side, side)
    return Built(module, (image,), dynamic={first_input(module): dims})
