"""diffusers: one tiny model of each kind: UNets, transformers, autoencoders, ControlNets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from benchmarks.zoo.case import Built, Case

PRELOAD = ("diffusers",)
BATCH, TEXT = 2, 7
#: Of a thousand steps; models that multiply by a thousand themselves take a fraction.
STEPS, FRACTIONS = (10.0, 699.0), (0.01, 0.699)

#: Two levels of a UNet, the deeper one with attention.
LEVELS = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
CROSS = LEVELS | {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "cross_attention_dim": 8, "attention_head_dim": 2,
}  # fmt: skip
UPWARDS = {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
VAE = LEVELS | {
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
}  # fmt: skip
HEADS = {"num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2}


@dataclass(frozen=True, slots=True)
class Kind:
    """A class at a tiny configuration; `floats` are the shapes of its inputs without the batch, `more` the rest."""

    cls: str
    settings: dict[str, Any]
    floats: dict[str, tuple[int, ...]]
    more: dict[str, Any] = field(default_factory=dict)
    timestep: bool = True
    fraction: bool = False


IMAGE, LATENT, VIDEO = (3, 16, 16), (4, 8, 8), (4, 3, 8, 8)
WORDS = {"encoder_hidden_states": (TEXT, 8)}
KINDS = (
    Kind("UNet2DModel", LEVELS | {
        "sample_size": 16, "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"), "attention_head_dim": 4,
    }, {"sample": IMAGE}),
    Kind("UNet2DConditionModel", CROSS | UPWARDS | {"sample_size": 8}, {"sample": LATENT} | WORDS),
    Kind("ControlNetModel", CROSS | {"conditioning_embedding_out_channels": (4, 8)},
         {"sample": LATENT, "controlnet_cond": (3, 16, 16)} | WORDS),
    Kind("UNetSpatioTemporalConditionModel", {
        "block_out_channels": (32, 64), "layers_per_block": 1, "num_attention_heads": (2, 4), "cross_attention_dim": 8,
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"), "in_channels": 4,
        "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), "sample_size": 8, "num_frames": 2,
        "projection_class_embeddings_input_dim": 24, "addition_time_embed_dim": 8,
    }, {"sample": (2, 4, 8, 8), "encoder_hidden_states": (1, 8), "added_time_ids": (3,)}),
    Kind("AutoencoderKL", VAE | {"latent_channels": 4}, {"sample": IMAGE}, timestep=False),
    Kind("AutoencoderTiny", {
        "encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8), "num_encoder_blocks": (1, 1),
        "num_decoder_blocks": (1, 1),
    }, {"sample": IMAGE}, timestep=False),
    Kind("VQModel", VAE | {"latent_channels": 3, "num_vq_embeddings": 16}, {"sample": IMAGE}, timestep=False),
    Kind("AutoencoderKLTemporalDecoder", {
        "block_out_channels": (32, 32), "layers_per_block": 1, "latent_channels": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
    }, {"sample": IMAGE}, {"num_frames": BATCH}, timestep=False),
    Kind("AutoencoderKLWan", {"base_dim": 4, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1},
         {"sample": (3, 5, 16, 16)}, timestep=False),
    Kind("DiTTransformer2DModel", HEADS | {
        "in_channels": 4, "out_channels": 8, "sample_size": 8, "patch_size": 2, "num_embeds_ada_norm": 10,
        "norm_num_groups": 4,
    }, {"hidden_states": LATENT}, {"class_labels": torch.tensor([1, 7])}),
    Kind("PixArtTransformer2DModel", HEADS | {
        "sample_size": 8, "caption_channels": 8, "cross_attention_dim": 16, "use_additional_conditions": False,
    }, {"hidden_states": LATENT} | WORDS, {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}}),
    Kind("SD3Transformer2DModel", HEADS | {
        "sample_size": 8, "patch_size": 2, "in_channels": 4, "out_channels": 4, "joint_attention_dim": 8,
        "caption_projection_dim": 16, "pooled_projection_dim": 8,
    }, {"hidden_states": LATENT, "pooled_projections": (8,)} | WORDS),
    Kind("FluxTransformer2DModel", HEADS | {
        "num_single_layers": 1, "in_channels": 4, "joint_attention_dim": 8, "pooled_projection_dim": 8,
        "axes_dims_rope": (4, 2, 2),
    }, {"hidden_states": (16, 4), "pooled_projections": (8,)} | WORDS,
       {"img_ids": torch.randint(0, 4, (16, 3)).float(), "txt_ids": torch.zeros(TEXT, 3)}, fraction=True),
    Kind("SanaTransformer2DModel", HEADS | {
        "in_channels": 4, "out_channels": 4, "num_cross_attention_heads": 2, "cross_attention_head_dim": 8,
        "cross_attention_dim": 16, "caption_channels": 8, "sample_size": 8,
    }, {"hidden_states": LATENT} | WORDS),
    Kind("AuraFlowTransformer2DModel", {
        "sample_size": 8, "num_mmdit_layers": 1, "num_single_dit_layers": 1, "attention_head_dim": 8,
        "num_attention_heads": 2, "joint_attention_dim": 8, "caption_projection_dim": 16, "pos_embed_max_size": 64,
    }, {"hidden_states": LATENT} | WORDS, fraction=True),
    Kind("WanTransformer3DModel", HEADS | {
        "in_channels": 4, "out_channels": 4, "text_dim": 8, "freq_dim": 16, "ffn_dim": 16,
    }, {"hidden_states": VIDEO} | WORDS),
    Kind("CogVideoXTransformer3DModel", HEADS | {
        "in_channels": 4, "out_channels": 4, "time_embed_dim": 8, "text_embed_dim": 8, "sample_width": 8,
        "sample_height": 8, "sample_frames": 9, "max_text_seq_length": TEXT,
    }, {"hidden_states": (3, 4, 8, 8)} | WORDS),
    Kind("LTXVideoTransformer3DModel", HEADS | {
        "in_channels": 4, "out_channels": 4, "cross_attention_dim": 16, "caption_channels": 8,
    }, {"hidden_states": (12, 4)} | WORDS,
       {"num_frames": 3, "height": 2, "width": 2, "encoder_attention_mask": torch.ones(BATCH, TEXT)}),
    Kind("HunyuanVideoTransformer3DModel", HEADS | {
        "in_channels": 4, "out_channels": 4, "num_single_layers": 1, "num_refiner_layers": 1, "text_embed_dim": 8,
        "pooled_projection_dim": 8, "rope_axes_dim": (4, 2, 2),
    }, {"hidden_states": VIDEO, "pooled_projections": (8,)} | WORDS,
       {"guidance": torch.full((BATCH,), 6.0), "encoder_attention_mask": torch.ones(BATCH, TEXT)}),
    Kind("MochiTransformer3DModel", HEADS | {
        "in_channels": 4, "out_channels": 4, "pooled_projection_dim": 8, "text_embed_dim": 8, "time_embed_dim": 4,
    }, {"hidden_states": VIDEO} | WORDS, {"encoder_attention_mask": torch.ones(BATCH, TEXT)}),
)  # fmt: skip


def cases() -> Iterator[Case]:
    for kind in KINDS:
        yield Case(kind.cls, partial(build, kind))


def build(kind: Kind) -> Built:
    import diffusers

    module = getattr(diffusers, kind.cls)(**kind.settings).eval()
    kwargs: dict[str, Any] = {
        name: torch.randn(BATCH, *shape) for name, shape in kind.floats.items()
    }
    if kind.timestep:
        kwargs["timestep"] = torch.tensor(FRACTIONS if kind.fraction else STEPS)
    dims = {name: {0: "batch"} for name in kwargs}
    return Built(module, (), kwargs | kind.more | {"return_dict": False}, dims)
