"""What random modules are made of: activations, layers, and functions that keep an array's kind."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

ACTIVATIONS = {
    "relu": F.relu, "gelu": F.gelu, "silu": F.silu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "elu": F.elu,
    "hardswish": F.hardswish, "softplus": F.softplus, "leaky_relu": F.leaky_relu, "relu6": F.relu6,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "quick": lambda x: x * torch.sigmoid(1.702 * x),
}  # fmt: skip
MODULES = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
}
FUNCTIONS: dict[str, dict[str, Any]] = {
    "tokens": {
        "half": lambda x: x * 0.5,
        "centre": lambda x: x - x.mean(1, keepdim=True),
        "softmax": lambda x: x.softmax(-1),
        "flip": lambda x: x.flip(1),
        "roll": lambda x: x.roll(1, 1),
        "heads": lambda x: x.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2),
        "there and back": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
        "glu": lambda x: torch.cat([x, F.glu(torch.cat([x, x], -1), -1)], -1)[..., : x.shape[-1]],
        "first": lambda x: x + x[:, :1],
        "normalize": lambda x: F.normalize(x + 2, dim=-1),
        "set first": lambda x: _written(x, (slice(None), slice(None, 1)), 0.5),
        "set where": lambda x: _written(x, x > 1, 1.0),
        "add in place": lambda x: x.clone().add_(1).mul_(0.5),
        "add to part": lambda x: _added(x, (Ellipsis, slice(0, 2)), 1.0),
        "swap halves": lambda x: torch.cat(x.chunk(2, -1)[::-1], -1),
        "running sum": lambda x: x.cumsum(1) / x.shape[1],
        "running largest": lambda x: x.cummax(1)[0],
        "sorted": lambda x: x.sort(-1, descending=True)[0],
        "signs": lambda x: x + (x > 0).to(x.dtype) - (x < -1).int(),
        "counted": lambda x: x * (x > 0).sum(-1, keepdim=True) / 4,
        "picked": lambda x: x + x[:, torch.tensor([0, 2, 1])].sum(1, keepdim=True),
        "gathered": lambda x: x.gather(-1, x.argsort(-1)[..., :1]) + x,
        "einsum": lambda x: torch.einsum("nld,nmd->nlm", x, x).softmax(-1) @ x,
        "triangle": lambda x: (x @ x.mT).tril() @ x * 0.1,
        "unbound": lambda x: torch.stack(
            [part * (i + 1) for i, part in enumerate(x.unbind(-1))], -1
        ),
        "positions": lambda x: x + torch.arange(x.shape[1], device=x.device)[:, None] / 8,
        "masked": lambda x: x.masked_fill(x.abs() < 0.3, 0.0),
        "largest two": lambda x: x + x.topk(2, 1)[0].mean(1, keepdim=True),
        "clamp": lambda x: x.clamp(-1, 1),
        "mask": lambda x: torch.where(x > 0, x, x * 0.1),
        "self attention": lambda x: F.scaled_dot_product_attention(
            x[:, None], x[:, None], x[:, None]
        )[:, 0],
    },
    "lines": {
        "centre": lambda x: x - x.mean(2, keepdim=True),
        "channel softmax": lambda x: x.softmax(1),
        "set ends": lambda x: _written(x, (Ellipsis, slice(0, 1)), 0.5),
        "flip": lambda x: x.flip(-1) - x,
        "pad and cut": lambda x: F.pad(x, (2, 1), "reflect")[..., 1:-2],
        "replicate": lambda x: F.pad(x, (1, 2), "replicate")[..., 1:-2] + x,
        "power": lambda x: F.lp_pool1d(x.abs() + 0.1, 2, 3, 1)[..., :1] + x,
        "up": lambda x: F.avg_pool1d(F.interpolate(x, scale_factor=2, mode="nearest"), 2),
        "heads": lambda x: (x.unflatten(1, (2, -1)) * 0.5).flatten(1, 2),
        "norms": lambda x: x / (1 + x.norm(dim=1, keepdim=True)),
        "smooth": lambda x: F.avg_pool1d(x, 3, 1, 1),
        "largest": lambda x: F.max_pool1d(x, 3, 1, 1),
        "tokens and back": lambda x: F.layer_norm(x.transpose(1, 2), (x.shape[1],)).transpose(1, 2),
        "shuffle": lambda x: x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2),
    },
    "images": {
        "centre": lambda x: x - x.mean((2, 3), keepdim=True),
        "channel mean": lambda x: x * x.mean(1, keepdim=True),
        "gate": lambda x: (
            (c := x.chunk(2, 1))[0].repeat(1, 2, 1, 1) * c[1].repeat(1, 2, 1, 1).sigmoid()
        ),
        "smooth": lambda x: F.avg_pool2d(x, 3, 1, 1),
        "largest": lambda x: F.max_pool2d(x, 3, 1, 1),
        "roll": lambda x: x.roll((1, 2), (2, 3)),
        "set corner": lambda x: _written(x, (Ellipsis, slice(0, 2), slice(0, 1)), 0.5),
        "add to channel": lambda x: _added(x, (slice(None), 0), 1.0),
        "reflect": lambda x: F.pad(x, (1, 1, 2, 2), "reflect")[:, :, 1:-3, :-2] + x,
        "finer": lambda x: F.avg_pool2d(F.interpolate(x, scale_factor=2, mode="bilinear"), 2),
        "cells": lambda x: F.pixel_unshuffle(F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2), 2)[
            :, : x.shape[1]
        ],
        "attend": lambda x: F.scaled_dot_product_attention(*[x.flatten(2).mT] * 3).mT.unflatten(
            -1, x.shape[-2:]
        ),
        "variance": lambda x: x / (1 + x.var((2, 3), keepdim=True)),
        "largest place": lambda x: x + x.flatten(2).argmax(-1)[..., None, None] / 64,
        "by rows": lambda x: x.transpose(2, 3).softmax(-1).transpose(2, 3),
        "tokens and back": lambda x: F.layer_norm(x.flatten(2).mT, (x.shape[1],)).mT.reshape(
            x.shape
        ),
        "channels last": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],)).permute(
            0, 3, 1, 2
        ),
        "shuffle": lambda x: x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2),
        "pad and cut": lambda x: F.pad(x, (1, 0, 2, 0))[:, :, 1:-1, :-1],
        "up": lambda x: F.max_pool2d(F.interpolate(x, scale_factor=2), 2),
        "column": lambda x: x + x[:, :, :, :1],
        "windows": lambda x: x.unflatten(3, (2, -1)).flip(3).flatten(3),
    },
}


def _written(x: torch.Tensor, key: Any, value: float) -> torch.Tensor:
    """A copy with a part overwritten in place."""
    x = x.clone()
    x[key] = value
    return x


def _added(x: torch.Tensor, key: Any, value: float) -> torch.Tensor:
    x = x * 1
    x[key] += value
    return x
