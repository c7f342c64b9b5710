"""Factories of tiny nets that whole conversions are tested with."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as f


def randomize(module: nn.Module) -> nn.Module:
    """Statistics and affine weights as training leaves them: a norm that is left out shows."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -1, 1)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -1, 1)
    return module


class ConvNet(nn.Module):
    def __init__(self, channels: int = 8, classes: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(f.relu(self.bn(self.conv(image)))).flatten(1))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, d = x.shape
        heads = (b, n, 3, self.heads, d // self.heads)
        q, k, v = self.qkv(self.norm1(x)).reshape(heads).permute(2, 0, 3, 1, 4)
        h = f.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
        x = x + self.proj(h)
        return x + self.fc2(f.gelu(self.fc1(self.norm2(x))))


class Vit(nn.Module):
    """`table` is saved, `steps` is not: the port keeps it as a constant."""

    def __init__(self, dim: int = 64, depth: int = 2, classes: int = 10) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, dim, 4, 4)
        self.position = nn.Parameter(torch.randn(1, 16, dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, 4) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, classes)
        self.register_buffer("table", torch.linspace(0.5, 1.5, dim))
        self.register_buffer("steps", torch.linspace(0.9, 1.1, dim) ** 2, persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2) + self.position
        x = x * self.table * self.steps
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class Shared(nn.Module):
    """One layer under two names, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = self.first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x)))


class Functional(nn.Module):
    """Reads the weight of a layer that it also calls."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.fc(x)) + x * self.fc.weight.sum(0)


@torch.library.custom_op("porter_tests::mystery", mutates_args=())
def mystery(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


@torch.library.custom_op("porter_tests::riddle", mutates_args=())
def riddle(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


mystery.register_fake(torch.empty_like)
riddle.register_fake(torch.empty_like)


class Unknown(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return riddle(mystery(mystery(x)))


Built = tuple[nn.Module, tuple[Any, ...]]


def conv() -> Built:
    return randomize(ConvNet()), (torch.randn(2, 3, 10, 12),)


def vit() -> Built:
    return Vit(), (torch.randn(2, 3, 16, 16),)


def shared() -> Built:
    return Shared(), (torch.randn(2, 8),)


def functional() -> Built:
    return Functional(), (torch.randn(2, 64),)


def unknown() -> Built:
    return Unknown(), (torch.randn(2, 8),)
