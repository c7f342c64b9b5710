"""Dataclasses in the calls of a source, and what it returns that is no array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.random_modules.parity import port_of


@dataclass
class Batch:
    x: torch.Tensor
    mask: torch.Tensor
    split: str = "train"


@dataclass
class Losses:
    norm: torch.Tensor
    kind: str


@dataclass(frozen=True)
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor | None = None
    losses: Any = None

    def __post_init__(self):
        assert self.logits.ndim == 2


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, batch: Batch):
        h = torch.relu(self.a(batch.x)) * batch.mask
        return Output(self.b(h), None, Losses(h.square().mean(), "mean"))


def batch_of(n: int) -> Batch:
    return Batch(torch.randn(n, 6), torch.rand(n, 1))


def test_dataclasses_are_looked_into():
    ported = port_of(Model, (batch_of(4),))
    assert [i["name"] for i in ported.port.inputs] == ["batch_x", "batch_mask"]
    assert [o["name"] for o in ported.port.outputs] == ["logits", "losses_norm"]
    assert "(batch, 6)" in ported.port.model_py  # its dims may change
    batch = batch_of(3)
    with torch.no_grad():
        expected = ported.module(batch)
    found = ported.run(batch.x, batch.mask)
    for one, other in zip(found, (expected.logits, expected.losses.norm), strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-5, atol=1e-5)


class Sizes(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 2, stride=2)

    def forward(self, x):
        x = self.patches(x)
        return x.flatten(2).transpose(1, 2), x.shape[2], x.shape[3], "patches"


def test_what_is_no_array_is_left_out_and_told():
    ported = port_of(Sizes, (torch.randn(2, 3, 8, 12),))
    assert [o["name"] for o in ported.port.outputs] == ["output_0"]
    assert (
        "the port returns arrays alone, without output_1, output_2, output_3" in ported.port.notes
    )
