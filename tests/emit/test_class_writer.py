"""Classes: expressions that a constructor has several times get a name, which is used; loops over parts of lists."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from porter.emit.class_writer import name_repeated
from tests.random_modules.parity import port_of


@pytest.mark.parametrize("size", ["3 * args.width * args.heads", "10 * args.width"])
def test_a_name_is_one_that_is_read(size):
    lines = name_repeated([f"self.{name} = nn.Linear({size}, {size})" for name in "abc"])
    for line in lines:
        name, _, _ = line.partition(" = ")
        assert name.startswith("self.") or sum(name in other for other in lines) > 1


def test_a_part_that_an_operator_beside_it_takes_apart_stays():
    for line in (
        "self.{} = nn.Linear(72 * args.factor ** 2, 1)",
        "self.{} = nn.Linear(args.width // 72 * args.factor, 1)",
        "self.{} = nn.Linear(args.width ** 72 * args.factor, 1)",
    ):
        lines = [line.format(name) for name in "abc"]
        assert "out_dim" not in "".join(name_repeated(lines))
    halves = [
        f"self.{name} = nn.Linear(3 * args.channels // args.number_of_groups, 1)" for name in "abc"
    ]
    assert "size" not in "".join(name_repeated(halves))
    product = [
        f"self.{name} = nn.Linear(72 * args.factor // 2, 72 * args.factor)" for name in "abc"
    ]
    assert name_repeated(product)[1] == "self.a = nn.Linear(out_dim // 2, out_dim)"


class Mixed(nn.Module):
    """One block of a net over clips, which changes the number of channels."""

    def __init__(self, inner: int, outer: int):
        super().__init__()
        self.left, self.right = nn.Conv3d(inner, outer, 1), nn.Conv3d(inner, outer, 1)

    def forward(self, x):
        return self.left(x).tanh() * self.right(x)


class Clips(nn.Module):
    """As S3D (Xie et al. 2018): convolutions and their norms, blocks, a pool, and more blocks."""

    def __init__(self):
        super().__init__()
        blocks = [Mixed(4, 5), Mixed(5, 6), Mixed(6, 8)]
        later = [Mixed(8, 9), Mixed(9, 7), nn.MaxPool3d(2), Mixed(7, 6), Mixed(6, 3)]
        widths = (3, 4, 5, 6, 4)
        normed = (
            nn.Sequential(nn.Conv3d(inner, outer, 1), nn.BatchNorm3d(outer), nn.ReLU())
            for inner, outer in pairwise(widths)
        )
        self.features = nn.Sequential(
            *normed,
            *blocks,
            nn.MaxPool3d(2),
            *later,
        )

    def forward(self, x):
        return self.features(x)


def test_a_loop_over_a_part_of_a_list_ends_where_the_part_does():
    """Members of the list that are lists themselves count as one each."""
    clip = torch.randn(2, 3, 4, 8, 8)
    ported = port_of(Clips, [clip])
    assert "self.features[8:10]:" in ported.port.model_py
    ported.check(clip)


class _HandsOut(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("loss", torch.tensor([3.0]), persistent=False)

    def forward(self, a):
        return a * 2, self.loss


def test_a_buffer_may_be_an_output():
    a = torch.randn(2, 3)
    port_of(_HandsOut, [a]).check(a)
