"""timm: the smallest model of each of its model files, at a smaller image where the model takes any."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.zoo.case import Built, Case
from porter.sources.timm_models import first_input

PRELOAD = ("timm",)
BATCH = 2
#: Pixels along an image's side where the model takes any size: a multiple of 32 that no width of a layer is likely to equal.
SIDE = 160
#: Models made for images that take minutes on a CPU are built for smaller ones.
OPTIONS: dict[str, dict[str, Any]] = {
    "samvit_base_patch16": {"img_size": 256},
    "cait_xs24_384": {"img_size": 112},
}
#: Patches of 14 pixels want another side.
SIDES = {"deepseek_vit_412m": 56, "gemma4_vit_167m": 96, "qwen3_vit_88m": 96}
NAMES = """
    beit_base_patch16_224 halonet26t gernet_s cait_xs24_384 coat_tiny convit_tiny
    convmixer_768_32 convnext_atto cpubone_nano crossvit_tiny_240 csatv2 cs3darknet_s
    cspnext_tiny davit_tiny deepseek_vit_412m deit_tiny_patch16_224 densenet264d dla34 dpn68
    edgenext_xx_small efficientformer_l1 efficientformerv2_s0 tinynet_a efficientvim_m1
    efficientvit_b0 efficientvit_m0 eva02_tiny_patch14_224 fasternet_s fastvit_s12
    focalnet_tiny_lrf gcvit_xxtiny gemma4_vit_167m ghostnet_050 hardcorenas_b hgnet_tiny
    hiera_tiny_224 sam2_hiera_tiny hrnet_w18_small iformer_s inception_next_atto
    inception_resnet_v2 inception_v3 inception_v4 lcnetv2_small levit_384_s8 lowformer_b0
    mambaout_femto maxvit_pico_rw_256 caformer_s18 gmlp_s16_224 tf_mobilenetv3_large_minimal_100
    mobilenetv5_base mobilevit_xs mvitv2_tiny naflexvit_base_patch16_siglip nasnetalarge
    nest_tiny nextvit_small nf_seresnet26 pit_xs_224 pnasnet5large pvt_v2_b0 qwen3_vit_88m
    rdnet_tiny regnety_040_sgn repghostnet_050 repvit_m0_9 res2net50_26w_4s resnest26d resnet18
    resnetv2_18 rexnet_150 selecsls42 legacy_senet154 sequencer2d_s shvit_s1 skresnet18
    starnet_s1 swiftformer_xs swin_s3_tiny_224 swinv2_tiny_window8_256 swinv2_cr_tiny_224
    tiny_vit_5m_224 tnt_s_patch16_224 tresnet_l twins_svt_small vgg11_bn visformer_tiny
    vit_tiny_patch16_224 vit_tiny_r_s16_p8_224 vit_relpos_small_patch16_224 samvit_base_patch16
    vitamin_small_224 volo_d1_224 ese_vovnet19b_slim legacy_xception xception41
    xcit_nano_12_p8_224
""".split()


def cases() -> Iterator[Case]:
    for name in NAMES:
        yield Case(name, partial(build, name))


def build(name: str) -> Built:
    import timm

    module = timm.create_model(name, pretrained=False, **OPTIONS.get(name, {}))
    settings = module.pretrained_cfg
    channels, height, width = settings["input_size"]
    dims = {0: "batch"}
    if "img_size" in OPTIONS.get(name, {}):
        height = width = OPTIONS[name]["img_size"]
    elif not settings.get("fixed_input_size", False):
        side = SIDES.get(name, SIDE)
        least = max(side, *(settings.get("min_input_size") or (0, 0, 0))[1:])
        height, width = min(height, least), min(width, least)
        dims |= {2: "height", 3: "width"}
    first = first_input(module)
    return Built(module, (torch.randn(BATCH, channels, height, width),), dynamic={first: dims})
