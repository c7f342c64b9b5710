"""compose_views: which chains of views become shorter, and which are the author's."""

import pytest
import torch
from torch import nn

from tests.random_modules.parity import check_source, port_of


class Windows(nn.Module):
    """Attention within windows of a map, which are made and undone in the same module, as torchvision's Swin does."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(6, 18)

    def forward(self, x):
        batch, height, width, channels = x.shape
        x = x.view(batch, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(-1, 4, channels)
        qkv = self.qkv(x).reshape(x.size(0), x.size(1), 3, 3, 2).permute(2, 0, 3, 1, 4)
        x = (qkv[0] @ qkv[1].transpose(-2, -1)).softmax(dim=-1) @ qkv[2]
        x = x.transpose(1, 2).reshape(-1, 4, channels)
        x = x.view(batch, height // 2, width // 2, 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(batch, height, width, channels)


def test_tokens_of_windows_stay_together():
    """A layer reads the windows as the author made them, not a map of which heads and windows are made at once."""
    x = torch.randn(2, 8, 6, 6)
    ported = port_of(Windows, [x], {"x": {0: "batch", 1: "height", 2: "width"}})
    check_source(ported.port.model_py)
    assert ".transpose(2, 0, 3, 1, 4)" in ported.port.model_py
    ported.check(x)
    ported.check(torch.randn(1, 4, 10, 6))


class Attends(nn.Module):
    """torch's own attention turns a batch-first input around, and merges tokens and batch for its last product."""

    def __init__(self, packed):
        super().__init__()
        self.packed, self.norm = packed, nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        y = self.norm(x)
        keys = y if self.packed else y * 2
        return x + self.attention(y, keys, y, need_weights=False)[0]


@pytest.mark.parametrize("packed", [True, False])
def test_tokens_and_batch_stay_two_axes(packed):
    x = torch.randn(2, 9, 16)
    ported = port_of(lambda: Attends(packed), [x])
    ported.check(torch.randn(3, 5, 16))
    source = ported.port.model_py
    check_source(source)
    assert "flatten(2)" in source
    assert "reshape(-1, " not in source
