"""Tiny random transformers models, one for each way in which building or loading one differs."""

from __future__ import annotations

from typing import Any

TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 99,
}
VISION = {key: value for key, value in TEXT.items() if key != "vocab_size"} | {
    "image_size": 32,
    "patch_size": 8,
}
CLIP_TEXT = TEXT | {"max_position_embeddings": 20, "bos_token_id": 97, "eos_token_id": 98}
GROUPED = TEXT | {"num_key_value_heads": 2, "max_position_embeddings": 64}
ENCODER_DECODER = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "vocab_size": 99,
}
WHISPER = ENCODER_DECODER | {
    "num_mel_bins": 16,
    "max_source_positions": 20,
    "max_target_positions": 30,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 99}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

# name: (model class, configuration class, configuration's arguments)
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertModel", "BertConfig", TEXT),
    "bert-tied-head": ("BertForMaskedLM", "BertConfig", TEXT),
    "mpnet-eager": ("MPNetModel", "MPNetConfig", TEXT),
    "clip": ("CLIPModel", "CLIPConfig", {"text_config": CLIP_TEXT, "vision_config": VISION}),
    "clip-text": ("CLIPTextModel", "CLIPTextConfig", CLIP_TEXT),
    "clip-vision": ("CLIPVisionModel", "CLIPVisionConfig", VISION),
    "t5": ("T5ForConditionalGeneration", "T5Config", T5),
    "t5-encoder": ("T5EncoderModel", "T5Config", T5),
    "bart": ("BartModel", "BartConfig", ENCODER_DECODER),
    "whisper": ("WhisperModel", "WhisperConfig", WHISPER),
    "llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED),
    "llama-tied": ("LlamaForCausalLM", "LlamaConfig", GROUPED | {"tie_word_embeddings": True}),
    "llama3-rope": ("LlamaModel", "LlamaConfig", GROUPED | {"rope_scaling": LLAMA3_ROPE}),
    "vit-renamed": ("ViTForImageClassification", "ViTConfig", VISION),
    "swin-index-buffers": (
        "SwinModel",
        "SwinConfig",
        {
            "image_size": 32,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [2, 4],
            "window_size": 4,
        },
    ),
    "wav2vec2-weight-norm": (
        "Wav2Vec2Model",
        "Wav2Vec2Config",
        TEXT
        | {
            "conv_dim": (16, 16),
            "conv_stride": (5, 2),
            "conv_kernel": (10, 3),
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 4,
        },
    ),
}
MOE = (
    "Qwen3MoeForCausalLM",
    "Qwen3MoeConfig",
    GROUPED
    | {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2, "head_dim": 8},
)


def build(model: tuple[str, str, dict[str, Any]]) -> Any:
    """The model with random weights, in eval mode."""
    import torch
    import transformers

    name, config, arguments = model
    torch.manual_seed(0)
    return getattr(transformers, name)(getattr(transformers, config)(**arguments)).eval()
