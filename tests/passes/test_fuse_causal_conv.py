"""pad_uncached: what looks back without a cache is padded at the left. (With one: test_states.)"""

import torch
from torch import nn

from tests.random_modules.parity import check_source, port_of


class Causal(nn.Module):
    """Padded at both ends and cut, as WaveNet's and Mamba's kin do; and a shift by one token, as RWKV's do."""

    def __init__(self, dim=8):
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, 4, groups=dim, padding=3)
        self.mix, self.out = nn.Parameter(torch.rand(dim)), nn.Linear(dim, dim)

    def forward(self, x):
        x = self.conv(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        before = nn.functional.pad(x, (0, 0, 1, -1))
        return self.out(x * self.mix + before * (1 - self.mix))


def test_features_without_a_cache_are_padded():
    ported = port_of(Causal, [torch.randn(2, 10, 8)])
    ported.check(torch.randn(2, 10, 8))
    check_source(ported.port.model_py)
    assert "self.conv(mx.pad(x, [(0, 0), (3, 0), (0, 0)]))" in ported.port.model_py
    assert "cache" not in ported.port.model_py


class AsLong(Causal):
    """As many tokens as features, and no other number of them."""

    def __init__(self):
        super().__init__(8)
        self.places = nn.Parameter(torch.rand(8, 8))

    def forward(self, x):
        x = self.conv((x + self.places).transpose(1, 2))[..., :8].transpose(1, 2)
        return self.out(nn.functional.silu(x))


def test_as_many_tokens_as_features():
    ported = port_of(AsLong, [torch.randn(2, 8, 8)])
    ported.check(torch.randn(3, 8, 8))
