"""What small configurations have by a type's name: fields that no rule of small_configs.py tells."""

from __future__ import annotations

from typing import Any

#: Default configurations that no model can be built from, with what published checkpoints have there.
INCOMPLETE: dict[str, dict[str, Any]] = {
    "dbrx": {"attn_config": {"rope_theta": 500000.0, "clip_qkv": 8.0}},
    "xmod": {"default_language": "en_XX"},
    "lw_detr": {"projector_scale_factors": [1.0]},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 50000.0},
            "full_attention": None,
        },
    },
    "esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    "timm_backbone": {"backbone": "test_resnet"},
    "granite_speech5_encoder": {"context_size": 32},
    "blt": {"encoder_hash_byte_group_vocab": 500},
    "step3p5": {"sliding_window": 8},
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", "sparse"], "moe_intermediate_size": 96},
    "diffusion_gemma_text": {"num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 48},
    "moonshine_streaming": {"num_key_value_heads": 8},
    "t5gemma2_text": {"dropout_rate": 0.0},
    "qwen3_omni_moe_talker_text": {"shared_expert_intermediate_size": 32},
    "dinov3_vit": {"return_class_token": True},
    "pp_doclayout_v2": {"class_thresholds": [0.5] * 2, "class_order": [0, 1]},
    "molmo2": {"adapter_config": {"vision_feature_layer": [1, 0]}},
    "inkling_vision": {"num_hidden_layers": 3},
    "qwen4_exp_text": {
        "indexer_compress_ratio": 4,
        "indexer_budget": 8,
        "indexer_head_dim": 16,
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
    },
    # a tower that is large however it is scaled
    "gemma3n": {"vision_soft_tokens_per_image": 49},
    "gemma3n_vision": {"architecture": "test_efficientnet", "hidden_size": 256},
}

#: Types whose rotations by time, height and width need to be told how many pairs of features each of them has.
MROPE = (
    "glm4v_text", "glm4v_moe_text", "glm_image_text", "hunyuan_vl_text", "ernie4_5_vl_moe_text",
)  # fmt: skip

#: A large tower of timm's, as small as it goes.
_SMALL_PE: dict[str, Any] = {
    "architecture": "vit_pe_core_large_patch14_336",
    "model_args": {
        "embed_dim": 64,
        "img_size": [56, 56],
        "depth": 2,
        "num_heads": 4,
        "use_post_transformer_norm": False,
        "init_values": 0.1,
        "ref_feat_shape": [4, 4],
    },
    "image_size": 56,
}
_TEXT_BLOCKS = {
    "reduce_channel": [1, 1, 0], "return_channel": [1, 1, 0],
    "vertical_long_to_small_conv_longratio": [[7, 1], [1, 1], [3, 0]],
    "vertical_long_to_small_conv_midratio": [[5, 1], [1, 1], [2, 0]],
    "vertical_long_to_small_conv_shortratio": [[3, 1], [1, 1], [1, 0]],
    "horizontal_small_to_long_conv_longratio": [[1, 7], [1, 1], [0, 3]],
    "horizontal_small_to_long_conv_midratio": [[1, 5], [1, 1], [0, 2]],
    "horizontal_small_to_long_conv_shortratio": [[1, 3], [1, 1], [0, 1]],
    "symmetric_conv_long_longratio": [[7, 7], [1, 1], [3, 3]],
    "symmetric_conv_long_midratio": [[5, 5], [1, 1], [2, 2]],
    "symmetric_conv_long_shortratio": [[3, 3], [1, 1], [1, 1]],
}  # fmt: skip
_TEXT_DETECTION = {
    "intraclass_block_config": _TEXT_BLOCKS, "scale_factor_list": [1, 2, 4, 8],
    "kernel_list": [3, 2, 2], "neck_out_channels": 64,
}  # fmt: skip
#: Each half as high and wide as the one before: kernel, channels in and out, stride, squeeze-and-excitation.
_FOUR_STAGES = {
    "stem_channels": [3, 16, 32],
    "block_configs": [
        [[3, 32, 32, 1, False]],
        [[3, 32, 64, 2, False], [3, 64, 64, 1, False]],
        [[5, 64, 128, 2, True]],
        [[5, 128, 256, 2, True]],
    ],
    "out_indices": [1, 2, 3, 4],
}
_VOCABULARY_MAP = {"<image>": 150, "<|extra_200|>": 151}

#: Fields that shrinking by rule gets wrong, and why.
CHANGES: dict[str, dict[str, Any]] = {
    # the defaults have none
    "blip-2": {"image_token_index": 150},
    "voxtral": {"audio_token_id": 150},
    "instructblip": {"image_token_index": 150},
    "instructblipvideo": {"video_token_index": 150},
    # fewer places than the default chooses of
    "lw_detr": {"num_queries": 8},
    # the tower's width is not the text's, and there are fewer layers to take features from
    "qwen2_vl": {"vision_config": {"hidden_size": 512}},
    "granite_speech": {"projector_config": {"encoder_hidden_size": 64}},
    "granite_speech_plus": {"projector_config": {"encoder_hidden_size": 64}},
    "vipllava": {"vision_feature_layer": [-2, -1]},
    # the default's text is as wide as no published one's, which the projector meets
    "janus": {"text_config": {"hidden_size": 128}, "vq_config": {"base_channels": 32}},
    # a smaller picture has fewer patches to pool
    "gemma3": {"mm_tokens_per_image": 4},
    "shieldgemma2": {"mm_tokens_per_image": 4},
    # as published ones have it
    "lfm2_vl": {"vision_config": {"vision_use_head": False}},
    # widths that the published ones' have to each other
    "llama4": {
        "vision_config": {
            "hidden_size": 88,
            "num_attention_heads": 2,
            "intermediate_size": 352,
            "vision_output_dim": 256,
        },
    },
    # the text's width
    "ovis2": {"hidden_size": 256},
    # how many features a picture of so many patches has
    "aria": {"projector_patch_to_query_dict": {16: 4}},
    # the default ignores pictures
    **{name: {"image_token_id": 150} for name in ("minicpm_ocr", "minicpmv4_6", "minicpmv4_7")},
    # the default is no tower of patches, or a large one
    "perception_lm": {
        "vision_config": {
            "architecture": "vit_pe_core_large_patch14_336",
            "do_pooling": False,
            "hidden_size": 64,
            "model_args": {
                "embed_dim": 64,
                "img_size": [56, 56],
                "depth": 2,
                "global_pool": "",
                "num_heads": 4,
                "use_post_transformer_norm": False,
                "init_values": 0.1,
                "ref_feat_shape": [4, 4],
            },
            "image_size": 56,
        },
    },
    "fast_vlm": {
        "vision_config": {
            "architecture": "fastvit_mci3",
            "do_pooling": True,
            "global_pool": "avg",
            "hidden_size": 128,
            "image_size": 64,
            "model_args": {
                "inference_mode": True,
                "layers": [2, 2],
                "embed_dims": [32, 64],
                "mlp_ratios": [4, 4],
                "se_downsamples": [False, False],
                "downsamples": [False, True],
                "pos_embs": [None, None],
                "token_mixers": ["repmixer", "repmixer"],
                "lkc_use_act": True,
                "stem_use_scale_branch": False,
            },
        },
    },
    # the default has no tower
    "gemma4": {
        "vision_config": {
            "model_type": "gemma4_vision",
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 16,
            "position_embedding_size": 32,
        },
    },
    # a tower that is large however it is scaled
    "pe_video_encoder": {"vision_config": _SMALL_PE},
    "pe_video": {"video_config": {"vision_config": _SMALL_PE}},
    "pe_audio_video_encoder": {"video_config": {"vision_config": _SMALL_PE}},
    "pe_audio_video": {"audio_video_config": {"video_config": {"vision_config": _SMALL_PE}}},
    # what the defaults leave open
    "granite4_vision": {
        "deepstack_layer_map": [[-2, 0]],
        "spatial_target_layers": [1],
        "downsample_rate": "1/2",
        "qformer_config": {"num_attention_heads": 4},
    },
    "chameleon": {
        "vocabulary_map": _VOCABULARY_MAP,
        "vq_config": {"base_channels": 32, "num_embeddings": 64},
    },
    "emu3": {
        "vocabulary_map": _VOCABULARY_MAP,
        "vq_config": {"base_channels": 32, "codebook_size": 64},
    },
    "pp_ocrv5_server_det": _TEXT_DETECTION,
    "pp_ocrv6_medium_det": _TEXT_DETECTION | {"backbone_config": _FOUR_STAGES},
    # widths that others are made of
    "pp_ocrv6_small_det": {
        "backbone_config": _FOUR_STAGES,
        "layer_list_out_channels": [32, 64, 128, 256],
    },
    "oneformer": {"conv_dim": 32, "mask_dim": 32, "hidden_dim": 32},
    "rf_detr": {
        "backbone_config": {"image_size": 112, "num_windows": 2},
        "num_queries": 8,
        "group_detr": 1,
    },
    "seggpt": {"merge_index": 0, "intermediate_hidden_state_indices": [0, 1]},
    "uvdoc": {"backbone_config": {"out_indices": [1, 2, 3, 4, 5, 6]}},
    "xcodec": {"codebook_dim": 304},
    "chmv2": {
        "backbone_config": {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4]},
        "post_process_channels": [16, 32, 64, 64],
    },
}
