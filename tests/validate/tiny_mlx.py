"""The port of tiny_torch, as porter would emit it."""

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn


@dataclass
class ModelArgs:
    dim: int = 32
    classes: int = 10


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.fc1 = nn.Linear(dim, dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(dim, dim)

    def __call__(self, x):
        return x + self.fc2(self.act(self.fc1(self.norm(x))))


class Model(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.conv = nn.Conv2d(3, args.dim, 3, padding=1)
        self.bn = nn.BatchNorm(args.dim)
        self.blocks = [Block(args.dim) for _ in range(2)]
        self.head = nn.Linear(args.dim, args.classes)

    def __call__(self, image):
        x = self.bn(self.conv(image))
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        for block in self.blocks:
            x = block(x)
        return self.head(mx.mean(x, axis=1))
