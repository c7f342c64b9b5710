"""Calls that compute the same share a class."""

import re

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from tests.passes.factoring import classes, ported
from tests.random_modules.parity import port_of


class Norm(nn.Module):
    """A gain that is stored less one."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(dim))

    def forward(self, a):
        scaled = a * torch.rsqrt(a.pow(2).mean(-1, keepdim=True) + 1e-6)
        return scaled * (1.0 + self.weight)


class Attention(nn.Module):
    """Grouped queries; how many heads there are nothing says but the size of one."""

    def __init__(self, dim: int = 40, head_dim: int = 8, shared: int = 8):
        super().__init__()
        self.head_dim = head_dim
        self.norm, self.q_norm, self.k_norm = Norm(dim), Norm(head_dim), Norm(head_dim)
        self.q_proj, self.k_proj = nn.Linear(dim, 2 * dim), nn.Linear(dim, shared)
        self.v_proj, self.o_proj = nn.Linear(dim, shared), nn.Linear(2 * dim, dim)

    def forward(self, a):
        a = self.norm(a)
        heads = (*a.shape[:-1], -1, self.head_dim)
        q = self.q_norm(self.q_proj(a).view(heads)).transpose(1, 2)
        k = self.k_norm(self.k_proj(a).view(heads)).transpose(1, 2)
        v = self.v_proj(a).view(heads).transpose(1, 2)
        out = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Attention(40), Attention(40)

    def forward(self, a):
        return self.second(self.first(a))


def test_a_norm_of_tokens_is_one_of_heads_too():
    result = ported(Layers, 2, 7, 40)
    assert classes(result) == ["Norm", "Attention"]


def test_heads_that_nothing_names_are_called_so():
    source = ported(Layers, 2, 7, 40).port.model_py
    assert "self.num_heads" in source
    assert "self.size" not in source


class Mixed(nn.Sequential):
    """What takes a step's embedding gets it, as the diffusion UNets' TimestepEmbedSequential has it."""

    def forward(self, a, step):
        for layer in self:
            a = layer(a, step) if isinstance(layer, Mixing) else layer(a)
        return a


class Mixing(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.inner, self.step = nn.Linear(dim, dim), nn.Linear(4, dim)

    def forward(self, a, step):
        return a + torch.tanh(self.inner(a) + self.step(step))


class Unequal(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Mixed(Mixing(6), nn.Linear(6, 6))
        self.second = Mixed(Mixing(6), nn.Linear(6, 6), Mixing(6))

    def forward(self, a, step):
        return self.second(self.first(a, step), step)


def test_blocks_that_are_lists_of_other_lengths_are_two_classes():
    net = port_of(Unequal, (torch.randn(3, 6), torch.randn(3, 4)))
    net.check(torch.randn(2, 6), torch.randn(2, 4))
    assert [name for name in classes(net) if name.startswith("Mixed")] == ["Mixed"]
    assert "class Second(nn.Module)" in net.port.model_py


class Rounded(nn.Module):
    """What is added has gone through a coarser type, another in each block."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype, self.proj = dtype, nn.Linear(4, 4)

    def forward(self, a):
        return self.proj(a) + (a * 3).to(self.dtype).float()


def test_casts_to_several_types_are_several_classes():
    net = port_of(
        lambda: nn.Sequential(Rounded(torch.int32), Rounded(torch.float16), Rounded(torch.int32)), (torch.randn(3, 4),)
    )  # fmt: skip
    net.check(torch.randn(2, 4))
    assert {"astype(mx.int32)", "astype(mx.float16)"} <= set(
        re.findall(r"astype\(mx\.\w+\)", net.port.model_py)
    )
