"""Modules of which only shapes are asked."""

import pytest
import torch
from torch import nn

from porter.sources.meta_parameters import meta_parameters
from porter.sources.shapes_only import ShapesOnly


class Positions(nn.Module):
    """A table of 2**34 relative positions, as windows of a large image have."""

    def __init__(self, side: int = 2**17, reads: bool = False):
        super().__init__()
        place = torch.arange(side)
        table = (place[:, None] - place[None, :]).abs() + side - 1
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("copied", torch.empty(table.shape, dtype=torch.long))
        self.copied.copy_(table)
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 4)]
        self.weight = nn.Parameter(torch.randn(side, 3) * 0.02)
        nn.init.trunc_normal_(self.weight)
        self.largest = int(table.max()) if reads else None


def build(**arguments: object) -> Positions:
    with meta_parameters(), ShapesOnly(), torch.no_grad():
        return Positions(**arguments)


def test_a_large_table_has_a_shape_only():
    module = build()
    assert module.table.shape == module.copied.shape == (2**17, 2**17)
    assert module.table.is_meta
    assert module.weight.shape == (2**17, 3)
    assert module.rates == pytest.approx([0, 0.1 / 3, 0.2 / 3, 0.1])


def test_a_small_table_has_values():
    assert build(side=8, reads=True).largest == 14


def test_reading_a_large_table_raises():
    with pytest.raises((RuntimeError, NotImplementedError)):
        build(reads=True)
