"""torchvision: every name of its registry."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.zoo.case import Built, Case
from benchmarks.zoo.weights import randomize, unit_outputs
from porter.sources.timm_models import first_input

PRELOAD = ("torchvision",)
BATCH, SIDE = 2, 160
FIXED = ("vit_", "maxvit")  # made for one size of image


def cases() -> Iterator[Case]:
    from torchvision import models

    for name in models.list_models():
        yield Case(name, partial(build, name), randomize=_kind(name) != "detection")


def _kind(name: str) -> str:
    from torchvision import models

    module: str = models.get_model_builder(name).__module__
    return module.split(".")[2]


def build(name: str) -> Built:
    from torchvision import models

    builder = models.get_model_builder(name)
    takes = inspect.signature(builder).parameters
    options: dict[str, Any] = {key: None for key in ("weights", "weights_backbone") if key in takes}
    if name in ("googlenet", "inception_v3", "quantized_googlenet", "quantized_inception_v3"):
        options["init_weights"] = False
    kind = _kind(name)
    if kind == "detection":
        options |= _few_candidates(name)
        if not name.startswith("ssd"):
            options |= {
                "min_size": 160,
                "max_size": 192,
            }  # what images are resized to, 800 by default
    module = builder(**options)
    if kind == "optical_flow":
        pair = tuple(torch.rand(BATCH, 3, 128, 160) * 2 - 1 for _ in range(2))
        return Built(module.eval(), pair)
    if kind == "video":
        large = name.startswith(("mvit", "swin3d", "s3d"))  # made for such clips
        size = (16, 224, 224) if large else (8, 112, 112)
        return Built(module, (torch.randn(1, 3, *size),))
    if kind == "detection":
        images = ([torch.rand(3, 160, 192)],)
        randomize(module)
        unit_outputs(module.eval(), images)
        return Built(module, images)
    fixed = name.startswith(FIXED)
    side = 224 if fixed else SIDE
    dims = {0: "batch"} | ({} if fixed else {2: "height", 3: "width"})
    image = torch.randn(BATCH, 3, side, side)
    return Built(module, (image,), dynamic={first_input(module): dims})


def _few_candidates(name: str) -> dict[str, Any]:
    """Some boxes and few of nearly one score: where thousands are as good, roundoff decides which are kept."""
    if "rcnn" in name:
        return {"num_classes": 5, "rpn_pre_nms_top_n_test": 100, "rpn_post_nms_top_n_test": 50}
    threshold = {"retinanet": 0.9, "fcos": 0.7}.get(name.split("_")[0], 0.6)
    return {"num_classes": 5, "score_thresh": threshold, "topk_candidates": 100}
