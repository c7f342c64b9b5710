"""Small networks of the common kinds, which test_compile ports and runs."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class Mlp(nn.Module):
    def __init__(self, dim: int, ratio: float = 2.0, act: type[nn.Module] = nn.GELU):
        super().__init__()
        self.fc1, self.act, self.fc2 = (
            nn.Linear(dim, int(dim * ratio)),
            act(),
            nn.Linear(int(dim * ratio), dim),
        )

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Attention(nn.Module):
    def __init__(self, dim: int, num_heads: int = 3, fused: bool = True):
        super().__init__()
        self.num_heads, self.head_dim, self.fused = num_heads, dim // num_heads, fused
        self.scale = self.head_dim**-0.5
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.fused:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            x = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        return self.proj(x.transpose(1, 2).reshape(b, n, c))


class Encoder(nn.Module):
    def __init__(self, dim: int = 12, depth: int = 3, fused: bool = True):
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict({
            "norm1": nn.LayerNorm(dim), "attn": Attention(dim, 3, fused), "norm2": nn.LayerNorm(dim), "mlp": Mlp(dim),
        }) for _ in range(depth))  # fmt: skip
        self.norm = nn.LayerNorm(dim)

    def forward(self, x):
        for layer in self.layers:
            x = x + layer["attn"](layer["norm1"](x))
            x = x + layer["mlp"](layer["norm2"](x))
        return self.norm(x)


class Vit(nn.Module):
    def __init__(self, dim: int = 12, patch: int = 4, image: int = 16, classes: int = 5):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, patch, patch)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, (image // patch) ** 2 + 1, dim))
        self.encoder, self.head = Encoder(dim), nn.Linear(dim, classes)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.encoder(x)[:, 0])


class Bottleneck(nn.Module):
    def __init__(self, inp: int, planes: int, stride: int = 1):
        super().__init__()
        out = planes * 2
        self.conv1, self.bn1 = nn.Conv2d(inp, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, out, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or inp != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(inp, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + identity)


class Resnet(nn.Module):
    def __init__(self, classes: int = 5):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Bottleneck(8, 4), Bottleneck(8, 4), Bottleneck(8, 4))
        self.layer2 = nn.Sequential(Bottleneck(8, 8, 2), Bottleneck(16, 8))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(16, classes)

    def forward(self, x):
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class ConvNext(nn.Module):
    class Block(nn.Module):
        def __init__(self, dim: int):
            super().__init__()
            self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
            self.norm, self.mlp = nn.LayerNorm(dim, eps=1e-6), Mlp(dim, 4.0)
            self.gamma = nn.Parameter(torch.rand(dim))

        def forward(self, x):
            h = self.mlp(self.norm(self.dwconv(x).permute(0, 2, 3, 1)))
            return x + (self.gamma * h).permute(0, 3, 1, 2)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.blocks = nn.Sequential(*[ConvNext.Block(6) for _ in range(2)])
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.stem(x)).mean([-2, -1])))


class Llama(nn.Module):
    """A decoder's layer: RMS norm, rotary positions, grouped queries, SwiGLU, causal."""

    class Norm(nn.Module):
        def __init__(self, dim: int):
            super().__init__()
            self.weight = nn.Parameter(torch.rand(dim))

        def forward(self, x):
            h = x.float()
            h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6)
            return self.weight * h.to(x.dtype)

    def __init__(self, dim: int = 12, heads: int = 4, kv: int = 2, vocab: int = 20):
        super().__init__()
        self.heads, self.kv, self.head_dim = heads, kv, 4
        self.embed = nn.Embedding(vocab, dim)
        self.norm1, self.norm2 = Llama.Norm(dim), Llama.Norm(dim)
        self.q, self.o = (
            nn.Linear(dim, heads * 4, bias=False),
            nn.Linear(heads * 4, dim, bias=False),
        )
        self.k, self.v = nn.Linear(dim, kv * 4, bias=False), nn.Linear(dim, kv * 4, bias=False)
        self.gate, self.up = nn.Linear(dim, 20, bias=False), nn.Linear(dim, 20, bias=False)
        self.down, self.head = nn.Linear(20, dim, bias=False), nn.Linear(dim, vocab, bias=False)
        self.register_buffer(
            "inv_freq", 1.0 / 100 ** (torch.arange(0, 4, 2).float() / 4), persistent=False
        )

    def rotate(self, x, cos, sin):
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat([-b, a], -1) * sin

    def forward(self, ids):
        x = self.embed(ids)
        b, n, _ = x.shape
        angles = torch.outer(torch.arange(n).to(self.inv_freq), self.inv_freq)
        angles = torch.cat([angles, angles], -1)
        cos, sin = angles.cos(), angles.sin()
        h = self.norm1(x)
        q, k, v = (
            p(h).view(b, n, -1, self.head_dim).transpose(1, 2) for p in (self.q, self.k, self.v)
        )
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        k, v = (t.repeat_interleave(self.heads // self.kv, 1) for t in (k, v))
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(h.transpose(1, 2).reshape(b, n, -1))
        h = self.norm2(x)
        return self.head(x + self.down(F.silu(self.gate(h)) * self.up(h)))


class Bert(nn.Module):
    def __init__(self, dim: int = 12):
        super().__init__()
        self.words, self.positions = nn.Embedding(20, dim, padding_idx=0), nn.Embedding(16, dim)
        self.register_buffer("position_ids", torch.arange(16)[None])
        self.norm, self.dim = nn.LayerNorm(dim), dim
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.pooler = nn.Linear(dim, dim)

    def forward(self, ids, mask):
        x = self.norm(self.words(ids) + self.positions(self.position_ids[:, : ids.shape[1]]))
        b, n, _ = x.shape
        bias = (1.0 - mask[:, None, None].to(x.dtype)) * -10000.0
        q, k, v = (
            p(x).view(b, n, 3, -1).transpose(1, 2) for p in (self.query, self.key, self.value)
        )
        weights = (q @ k.transpose(-1, -2) / math.sqrt(self.dim // 3) + bias).softmax(-1)
        x = (weights @ v).transpose(1, 2).flatten(2)
        return {"last_hidden_state": x, "pooler_output": torch.tanh(self.pooler(x[:, 0]))}


class Unet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)])
        self.mid = nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.ModuleList([nn.ConvTranspose2d(8, 8, 2, 2), nn.ConvTranspose2d(8, 4, 2, 2)])
        self.fuse = nn.ModuleList([nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)])
        self.out = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        skips = []
        for conv in self.down:
            x = F.relu(conv(x))
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.mid(x)
        for up, fuse in zip(self.up, self.fuse, strict=True):
            x = F.relu(fuse(torch.cat([up(x), skips.pop()], 1)))
        return self.out(x)


class Wave(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(4, 8, 3, padding=2**i, dilation=2**i) for i in range(3)
        )
        self.skips = nn.ModuleList(nn.Conv1d(4, 4, 1) for _ in range(3))
        self.first, self.last = nn.Conv1d(2, 4, 1), nn.Conv1d(4, 3, 1)

    def forward(self, x):
        x = self.first(x)
        total = 0
        for conv, skip in zip(self.convs, self.skips, strict=True):
            h = torch.tanh((a := conv(x).chunk(2, 1))[0]) * torch.sigmoid(a[1])
            total = total + skip(h)
            x = x + h
        return self.last(F.relu(total))


class Gru(nn.Module):
    def __init__(self, kind: type[nn.Module]):
        super().__init__()
        self.rnn, self.head = (
            kind(4, 5, num_layers=2, batch_first=True, bidirectional=True),
            nn.Linear(10, 3),
        )

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.block = nn.Embedding(12, 6), Mlp(6)
        self.head = nn.Linear(6, 12, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.block(self.embed(ids)))


class Experts(nn.Module):
    """All experts run, weighted by a router."""

    def __init__(self):
        super().__init__()
        self.router, self.experts = nn.Linear(6, 3), nn.ModuleList(Mlp(6) for _ in range(3))

    def forward(self, x):
        weights = self.router(x).softmax(-1)
        return sum(weights[..., i : i + 1] * expert(x) for i, expert in enumerate(self.experts))
