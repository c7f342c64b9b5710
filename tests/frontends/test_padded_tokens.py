"""nn.TransformerEncoder under a padding mask: torch's inference leaves zeros where no token is."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
import torch
from torch import nn

from tests.random_modules.parity import port_of


class Pooled(nn.Module):
    """Means over all places, those of padding among them."""

    def __init__(self, **options):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, **options)

    def forward(self, x, pad):
        return self.encoder(x, src_key_padding_mask=pad).mean(1)


@pytest.mark.parametrize(
    "options", [{}, {"norm": nn.LayerNorm(8)}, {"enable_nested_tensor": False}], ids=str
)
def test_padding_is_zero_where_torch_has_it_so(options):
    x, pad = torch.randn(2, 6, 8), torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    net = port_of(lambda: Pooled(**options), (x, pad))
    with torch.no_grad():
        expected = net.module.float().eval()(x, pad)
    found = net.model(mx.array(x.numpy()), mx.array(pad.numpy()))
    np.testing.assert_allclose(np.array(found), expected.numpy(), atol=1e-5)
