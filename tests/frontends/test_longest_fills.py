"""Sizes that an author takes from the lengths of a padded batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.random_modules.parity import port_of


def by_item(lengths):
    return torch.arange(lengths.max().item())[None] >= lengths[:, None]


def by_tensor(lengths):
    return torch.arange(0, lengths.max(), 1)[None] >= lengths[:, None]


def by_int(lengths):
    return torch.arange(int(lengths.max()))[None] >= lengths[:, None]


def by_triangle(lengths):
    """As ESPnet has it for its exports."""
    most = lengths.max()
    mask = torch.ones(most + 1, most + 1, dtype=torch.bool).triu()[1:, :-1]
    return mask[lengths - 1][..., :most]


class Encoder(nn.Module):
    """A mask before a layer that halves the number of frames, and one behind it."""

    def __init__(self, pad_mask=by_item):
        super().__init__()
        self.pad_mask = pad_mask
        self.proj = nn.Linear(4, 4)

    def forward(self, x, lengths):
        x = self.proj(x).masked_fill(self.pad_mask(lengths)[..., None], 0.0)
        half = torch.div(lengths + 1, 2, rounding_mode="floor")
        return x[:, : lengths.max()], x[:, ::2].masked_fill(self.pad_mask(half)[..., None], 1.0)


@pytest.mark.parametrize("pad_mask", [by_item, by_tensor, by_int, by_triangle])
def test_the_longest_fills_its_array(pad_mask):
    net = port_of(lambda: Encoder(pad_mask), (torch.randn(2, 7, 4), torch.tensor([7, 3])))
    length = 7 if pad_mask is by_int else 9  # an int of a size fixes it
    net.check(torch.randn(3, length, 4), torch.tensor([length, 2, 5]))
    assert any("the longest fills its array" in note for note in net.port.notes)


def test_lengths_that_fill_no_array_are_refused():
    with pytest.raises(Exception, match="depends on the data"):
        port_of(Encoder, (torch.randn(2, 7, 4), torch.tensor([5, 3])))
