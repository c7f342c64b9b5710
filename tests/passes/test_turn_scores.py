"""turn_scores: attention whose scores keep queries before heads, and a table of complex rotations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.random_modules.parity import check_source, port_of


class Latent(nn.Module):
    """Queries, heads, keys in this order, as DeepSeek's authors write it; rotations by a stored complex table."""

    def __init__(self, order: str = "bsht", stored: bool = True):
        super().__init__()
        self.order = order
        self.qkv, self.out = nn.Linear(16, 48, bias=False), nn.Linear(16, 16, bias=False)
        angles = torch.outer(torch.arange(32.0), 100.0 ** (-torch.arange(0, 8, 2) / 8))
        self.register_buffer(
            "turns", torch.polar(torch.ones_like(angles), angles), persistent=stored
        )

    def rotated(self, x):
        z = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
        return torch.view_as_real(z * self.turns[: x.size(1)].view(1, x.size(1), 1, -1)).flatten(3)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 8)).unbind(2)
        mask = x.new_full((x.size(1), x.size(1)), float("-inf")).triu_(1)
        scores = torch.einsum(f"bshd,bthd->{self.order}", self.rotated(q), self.rotated(k)) * 0.3
        mask = mask.unsqueeze(1 if self.order == "bsht" else 2)
        weights = (scores + mask).softmax(self.order.index("t"))
        return self.out(torch.einsum(f"{self.order},bthd->bshd", weights, v).flatten(2))


@pytest.mark.parametrize("order", ["bsht", "bsth"])
@pytest.mark.parametrize("stored", [True, False])
def test_scores_in_another_order_are_attention(order, stored):
    inputs = (torch.randn(2, 9, 16),)
    ported = port_of(lambda: Latent(order, stored), inputs)
    ported.check(*inputs)
    ported.check(torch.randn(3, 12, 16))
    source = ported.port.model_py
    assert 'mask="causal"' in source
    assert "mx.fast.scaled_dot_product_attention" in source
    assert "nn.RoPE(8, traditional=True" in source
    check_source(source)
