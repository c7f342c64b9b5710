"""One factory for each golden file, called by porter as `sources.py:NAME`. Statistics and 1-D parameters are random,
so that swapped norms and dropped statistics show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Made = tuple[torch.nn.Module, tuple[torch.Tensor, ...], dict[str, torch.Tensor]]

TIMM = (
    "resnet50", "vit_tiny_patch16_224", "convnext_atto", "efficientnet_b0", "swin_tiny_patch4_window7_224",
    "mobilenetv3_small_100", "mixer_s32_224",
)  # fmt: skip
TORCHVISION = ("densenet121", "googlenet", "vit_b_16")
TRANSFORMERS = (
    "bert",
    "distilbert",
    "vit",
    "clip_text",
    "clip_vision",
    "t5_encoder",
    "whisper_encoder",
)
NAMES = TIMM + TORCHVISION + TRANSFORMERS
#: The fast suite's: a conv net, a transformer for images, one for text, and one with odd masks.
FAST = ("mobilenetv3_small_100", "vit", "bert", "t5_encoder")

TEXT = {
    "vocab_size": 300,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
}
VISION = {
    key: TEXT[key]
    for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
}
VISION |= {"image_size": 32, "patch_size": 8}


def _randomized(module: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(getattr(layer, "running_mean", None), torch.Tensor):
            layer.running_mean.copy_(
                torch.randn(layer.running_mean.shape, generator=generator) * 0.3
            )
            layer.running_var.copy_(torch.rand(layer.running_var.shape, generator=generator) + 0.5)
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return module.eval()


def _image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def _timm(name: str) -> Callable[[], Made]:
    def factory() -> Made:
        import timm

        module = timm.create_model(name)
        return _randomized(module), (_image(2, *module.default_cfg["input_size"]),), {}

    return factory


def _torchvision(name: str) -> Callable[[], Made]:
    def factory() -> Made:
        import torchvision

        options = {"init_weights": False} if name == "googlenet" else {}
        return (
            _randomized(torchvision.models.get_model(name, weights=None, **options)),
            (_image(2, 3, 224, 224),),
            {},
        )

    return factory


for _name in TIMM:
    globals()[_name] = _timm(_name)
for _name in TORCHVISION:
    globals()[_name] = _torchvision(_name)


def _words(length: int = 11, masked: bool = True) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 300, (2, length), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[1, length - 4 :] = 0
    return {"input_ids": ids, "attention_mask": mask} if masked else {"input_ids": ids}


def _model(module: Any, inputs: dict[str, torch.Tensor]) -> Made:
    return _randomized(module), (), inputs


def bert() -> Made:
    import transformers as hf

    return _model(hf.BertModel(hf.BertConfig(**TEXT)), _words())


def distilbert() -> Made:
    import transformers as hf

    config = hf.DistilBertConfig(
        vocab_size=300, dim=48, n_layers=3, n_heads=4, hidden_dim=96, max_position_embeddings=64
    )
    return _model(hf.DistilBertModel(config), _words())


def vit() -> Made:
    import transformers as hf

    return _model(hf.ViTModel(hf.ViTConfig(**VISION)), {"pixel_values": _image(2, 3, 32, 32)})


def clip_text() -> Made:
    import transformers as hf

    config = hf.CLIPTextConfig(
        **TEXT | {"max_position_embeddings": 40}, projection_dim=24, bos_token_id=1, eos_token_id=2
    )
    inputs = _words()
    inputs["input_ids"][0, 9] = inputs["input_ids"][1, 6] = 2
    return _model(hf.CLIPTextModelWithProjection(config), inputs)


def clip_vision() -> Made:
    import transformers as hf

    config = hf.CLIPVisionConfig(**VISION, projection_dim=24)
    return _model(hf.CLIPVisionModelWithProjection(config), {"pixel_values": _image(2, 3, 32, 32)})


def t5_encoder() -> Made:
    import transformers as hf

    config = hf.T5Config(vocab_size=300, d_model=48, d_kv=12, num_layers=3, num_heads=4, d_ff=96)
    return _model(hf.T5EncoderModel(config), _words())


def whisper_encoder() -> Made:
    import transformers as hf

    config = hf.WhisperConfig(
        vocab_size=300, d_model=48, encoder_layers=3, encoder_attention_heads=4, decoder_layers=2,
        decoder_attention_heads=4, encoder_ffn_dim=96, decoder_ffn_dim=96, num_mel_bins=16, max_source_positions=50,
        max_target_positions=30, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return _model(hf.WhisperModel(config).encoder, {"input_features": _image(2, 16, 100)})
