"""fuse_prelu: slopes of the checkpoint are nn.PReLU, and activations with numbers stay in their nn.Sequential."""

import torch
from torch import nn

from tests.random_modules.parity import check_source, port_of


def block(width, outer, *last):
    return nn.Sequential(nn.Conv2d(width, outer, 3, stride=2, padding=1), *last)


def image(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


class Shared(nn.Module):
    """One slope for several maps: the module is called twice, a function reads its weight."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.full((4,), 0.3))
        self.act = nn.PReLU(4)
        self.mix = nn.Linear(4, 4)

    def forward(self, x):
        x = self.act(self.mix(self.act(x)))
        return nn.functional.prelu(x, self.slope) + self.slope


def maps():
    return nn.Sequential(block(3, 8, nn.PReLU(8)), block(8, 6, nn.BatchNorm2d(6), nn.PReLU()))


def leaky():
    return nn.Sequential(
        block(3, 8, nn.LeakyReLU(0.2)), block(8, 6, nn.LeakyReLU(0.1)), block(6, 4, nn.LeakyReLU())
    )


def test_slopes_for_channels_and_for_all():
    ported = port_of(maps, (image(2, 3, 9, 12),))
    ported.check(image(3, 3, 16, 11))
    source = ported.port.model_py
    check_source(source)
    assert "nn.PReLU(num_parameters=" in source
    assert "nn.PReLU()" in source
    assert "[[" not in source  # the blocks stay nn.Sequential


def test_one_layer_called_twice_and_a_slope_that_is_more():
    ported = port_of(Shared, (image(2, 4),))
    ported.check(image(5, 4))
    assert ported.port.model_py.count("nn.PReLU(") == 1


def test_leaky_relu_in_a_sequential():
    ported = port_of(leaky, (image(2, 3, 24, 32),))
    ported.check(image(3, 3, 32, 24))
    source = ported.port.model_py
    check_source(source)
    assert "nn.LeakyReLU(0.2)" in source
    assert "nn.LeakyReLU()" in source
    assert "nn.leaky_relu" not in source
