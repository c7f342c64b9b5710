"""symbolic_checks: layers that an author makes in his forward, of sizes that may change."""

import torch
from torch import nn

from tests.random_modules.parity import port_of


class Map(nn.Module):
    """Tokens become a map again, as in DPT."""

    def __init__(self):
        super().__init__()
        self.patches, self.out = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 2, 3, padding=1)

    def forward(self, x):
        height, width = x.shape[2:]
        tokens = self.patches(x).flatten(2)
        return self.out(nn.Unflatten(2, torch.Size([height // 4, width // 4]))(tokens))


def test_sizes_of_an_unflatten_may_change():
    ported = port_of(Map, (torch.randn(2, 3, 8, 12),))
    ported.check(torch.randn(1, 3, 16, 8))
    assert not ported.port.notes
