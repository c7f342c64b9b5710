"""torch.nn's transformers with the masks of a call: whether one is causal is no question to a graph."""

from __future__ import annotations

import torch
from torch import nn

from tests.random_modules.parity import port_of


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerDecoderLayer(16, 2, 24, batch_first=True)
        self.layers = nn.TransformerDecoder(layer, 2)

    def forward(self, x, memory):
        mask = nn.Transformer.generate_square_subsequent_mask(x.size(1))
        return self.layers(x, memory, tgt_mask=mask)


def test_a_causal_mask_is_seen_by_its_positions():
    inputs = torch.randn(2, 9, 16), torch.randn(2, 5, 16)
    ported = port_of(Decoder, inputs)
    ported.check(*inputs)
    ported.check(torch.randn(3, 11, 16), torch.randn(3, 5, 16))
    assert 'mask="causal"' in ported.port.model_py
