"""Two sizes of each of five families, small enough to be ported in a test; called by porter as `families.py:NAME`."""

from __future__ import annotations

from typing import Any

import torch

Made = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]


def _made(module: torch.nn.Module, *inputs: torch.Tensor) -> Made:
    """With statistics and norms that are neither zero nor one: a swapped one shows."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 1.5)
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.data.add_(torch.randn(parameter.shape) * 0.1)
    return module.eval(), inputs


def _image(side: int) -> torch.Tensor:
    return torch.randn(2, 3, side, side)


def _vit(**sizes: Any) -> Made:
    from timm.models.vision_transformer import VisionTransformer

    side = sizes["img_size"]
    return _made(VisionTransformer(num_classes=10, **sizes), _image(side))


def vit() -> Made:
    return _vit(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3)


def vit_other() -> Made:
    return _vit(img_size=48, patch_size=12, embed_dim=64, depth=3, num_heads=4, mlp_ratio=3.0)


def _convnext(**sizes: Any) -> Made:
    from timm.models.convnext import ConvNeXt

    return _made(ConvNeXt(num_classes=10, conv_mlp=True, **sizes), _image(64))


def convnext() -> Made:
    return _convnext(depths=(2, 2, 3, 2), dims=(16, 32, 48, 64))


def convnext_other() -> Made:
    return _convnext(depths=(3, 2, 4, 3), dims=(24, 40, 64, 80))


def _resnet(**sizes: Any) -> Made:
    from timm.models.resnet import Bottleneck, ResNet

    return _made(ResNet(Bottleneck, num_classes=10, **sizes), _image(64))


def resnet() -> Made:
    return _resnet(layers=(2, 2, 3, 2), channels=(24, 32, 48, 64))


def resnet_other() -> Made:
    return _resnet(layers=(3, 4, 2, 3), channels=(32, 40, 56, 80))


def _bert(**sizes: Any) -> Made:
    from transformers import BertConfig, BertModel

    config = BertConfig(max_position_embeddings=40, **sizes)
    return _made(BertModel(config), torch.randint(0, 50, (2, 9)))


def bert() -> Made:
    return _bert(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )


def bert_other() -> Made:
    return _bert(
        vocab_size=70,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=80,
    )


def _swin(**sizes: Any) -> Made:
    from timm.models.swin_transformer import SwinTransformer

    side = sizes["img_size"]
    return _made(
        SwinTransformer(num_classes=10, patch_size=4, window_size=4, **sizes), _image(side)
    )


def swin() -> Made:
    return _swin(img_size=64, embed_dim=24, depths=(2, 4, 2), num_heads=(2, 4, 8))


def swin_other() -> Made:
    return _swin(img_size=128, embed_dim=48, depths=(2, 2, 6), num_heads=(3, 6, 6))


class PooledKeys(torch.nn.Module):
    """A block that takes features: its width is a size of its input, and 16 tokens are left as it is 16 wide."""

    def __init__(self, dim: int):
        super().__init__()
        self.qkv = torch.nn.Linear(dim, 3 * dim)
        self.pool = torch.nn.Conv2d(dim, dim, 3, stride=2, padding=1, groups=dim, bias=False)
        self.norm, self.proj = torch.nn.LayerNorm(dim), torch.nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, N, C = x.shape  # noqa: N806
        q, k, v = self.qkv(x).reshape(B, N, 3, 1, C).permute(2, 0, 3, 1, 4).unbind(0)
        k, v = (self.pool(a.reshape(B, 8, 8, C).permute(0, 3, 1, 2)) for a in (k, v))
        k, v = (self.norm(a.reshape(B, 1, C, 16).transpose(2, 3)) for a in (k, v))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(B, N, C))


def pooled_keys(dim: int = 16):
    return PooledKeys(dim), (torch.randn(2, 64, dim),)


def pooled_keys_other():
    return pooled_keys(24)


class Denoiser(torch.nn.Module):
    """Patches to tokens and back, beside features of a time; how many blocks there are is called `n`."""

    def __init__(self, size: int = 8, p: int = 2, d: int = 32, n: int = 2):
        super().__init__()
        self.p = p
        self.embed, self.time = torch.nn.Conv2d(4, d, p, p), torch.nn.Linear(8, d)
        self.positions = torch.nn.Parameter(torch.randn(1, (size // p) ** 2, d))
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(d, d) for _ in range(n)])
        self.head = torch.nn.Linear(d, p * p * 4)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.positions
        frequencies = torch.exp(-torch.arange(0, 8, dtype=torch.float32) / 8)
        tokens = tokens + self.time((t[:, None] * frequencies).cos())[:, None]
        for block in self.blocks:
            tokens = tokens + block(tokens).tanh()
        h = int(tokens.shape[1] ** 0.5)
        patches = self.head(tokens).reshape(len(x), h, h, self.p, self.p, 4)
        return torch.einsum("nhwpqc->nchpwq", patches).reshape(len(x), 4, h * self.p, h * self.p)


def denoiser(size: int = 8, p: int = 2, d: int = 32, n: int = 2):
    return Denoiser(size, p, d, n), (torch.randn(2, 4, size, size), torch.rand(2))


def denoiser_other():
    return denoiser(24, 4, 48)
