"""Layers that several modules share, and parameters with several readers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from porter.errors import UnsupportedError
from tests.passes.programs import x
from tests.random_modules.parity import port_of


class Position(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 5, padding=2)])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.convs[0](image) + self.convs[1](image)


class Block(nn.Module):
    def __init__(self, position: Position) -> None:
        super().__init__()
        self.position, self.norm = position, nn.BatchNorm2d(4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + self.norm(self.position(image))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        shared, other = Position(), Position()
        self.first, self.second = Block(shared), Block(shared)
        self.third = Block(other)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.third(self.second(self.first(image)))


def test_a_module_that_two_modules_share_is_copied_into_both() -> None:
    image = x(2, 4, 6, 6)
    ported = port_of(Net, (image,))
    ported.check(image)
    assert ported.port.model_py.count("class ") == 4  # ModelArgs, Position, Block, Model
    keys = {str(recipe) for recipe in ported.port.recipes.values()}
    assert len(ported.port.recipes) == len(keys) + 4
    assert any("copy of its weights" in note for note in ported.port.notes)


def test_layers_shared_within_one_module_are_kept_once() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            head = nn.Linear(6, 6)
            self.heads, self.norm = nn.ModuleList([head, head]), nn.LayerNorm(6)

        def forward(self, a: torch.Tensor) -> torch.Tensor:
            return self.heads[1](self.norm(self.heads[0](a)))

    ported = port_of(Heads, (x(2, 6),))
    ported.check(x(2, 6))
    assert len(ported.port.recipes) == 4
    assert not ported.port.notes


@pytest.mark.parametrize(
    ("layer", "again"),
    [
        (
            nn.Conv2d(4, 4, 3, padding=1),
            lambda c, x: F.conv2d(x, c.weight, c.bias, padding=2, dilation=2),
        ),
        (
            nn.ConvTranspose2d(4, 4, 3, padding=1),
            lambda c, x: F.conv_transpose2d(x, c.weight, None, padding=1),
        ),
        (nn.LayerNorm(6), lambda n, x: F.layer_norm(x, (6,), n.weight, n.bias, eps=0.5)),
        (nn.RMSNorm(6, eps=1e-6), lambda n, x: F.rms_norm(x, (6,), n.weight, eps=0.5)),
    ],
    ids=["dilation", "no-bias", "layer-norm", "rms-norm"],
)
def test_one_weight_with_two_settings(layer, again):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x) + again(self.layer, x)

    inputs = torch.randn(2, 4, 5, 6)
    port_of(Net, [inputs]).check(inputs)


def test_one_batchnorm_with_two_settings_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x):
            return self.norm(x) + F.batch_norm(x, self.norm.running_mean, self.norm.running_var)

    with pytest.raises(UnsupportedError, match="a module of its own"):
        port_of(Net, [torch.randn(2, 4, 5, 6)])
