"""flex_attention in a graph: scores that a function changes, and masks by functions of places."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention.flex_attention import and_masks, create_block_mask, flex_attention

from tests.random_modules.parity import check_source, port_of


def causal(b, h, q, k):
    return q >= k


def near(b, h, q, k):
    return q - k <= 3


class Attention(nn.Module):
    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        self.q, self.k, self.v = nn.Linear(16, 16), nn.Linear(16, 8), nn.Linear(16, 8)
        self.register_buffer("slopes", torch.tensor([0.5, 0.25, 0.125, 0.0625]))

    def attend(self, q, k, v, documents):
        B, _, L, _ = q.shape  # noqa: N806

        def alibi(score, b, h, q, k):
            return score + self.slopes[h] * (k - q)

        def capped(score, b, h, q, k):
            return 5.0 * torch.tanh(score / 5.0)

        def same(b, h, q, k):
            return documents[b, q] == documents[b, k]

        if self.kind == "causal":
            mask = create_block_mask(causal, None, None, L, L, device="cpu")
            return flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
        if self.kind == "window":
            mask = create_block_mask(and_masks(causal, near), B, None, L, L, device="cpu")
            return flex_attention(q, k, v, capped, block_mask=mask, enable_gqa=True)
        if self.kind == "documents":
            mask = create_block_mask(and_masks(causal, same), B, None, L, L, device="cpu")
            return flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
        return flex_attention(q, k, v, score_mod=alibi, enable_gqa=True)

    def forward(self, x, documents):
        q, k, v = (f(x).unflatten(-1, (-1, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
        return self.attend(q, k, v, documents).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("kind", ["causal", "window", "documents", "alibi"])
def test_functions_of_scores_and_places(kind):
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 2, 2], [0, 1, 1, 1, 1, 1, 1, 1]])
    inputs = torch.randn(2, 8, 16), documents
    ported = port_of(lambda: Attention(kind), inputs)
    ported.check(*inputs)
    ported.check(
        torch.randn(3, 11, 16), torch.arange(11).div(4, rounding_mode="floor").expand(3, -1)
    )
    check_source(ported.port.model_py)
    if kind == "causal":
        assert 'mask="causal"' in ported.port.model_py
