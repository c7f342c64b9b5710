"""Parts that some instances of a class lack. Every port is run and compared."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from tests.passes.factoring import Mlp, classes, net, ported
from tests.passes.programs import x
from tests.random_modules.parity import check_source, port_of


def test_blocks_that_lack_a_part_are_one_class():
    result = ported(net(lambda: Mlp(6, 8), lambda: Mlp(6, 8, drop=True), lambda: Mlp(6, 8)), 2, 6)
    assert classes(result) == ["Mlp"]
    assert '"scale" in self' in result.port.model_py


def test_the_first_block_may_be_the_one_that_lacks_it():
    result = ported(net(lambda: Mlp(6, 8), lambda: Mlp(6, 8, drop=True), loop=False), 2, 6)
    assert classes(result) == ["Mlp"]


class Down(nn.Module):
    """ResNet's block: a projection where the width changes."""

    def __init__(self, inp: int, out: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inp, out, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or inp != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(inp, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, a):
        shortcut = a
        if self.downsample is not None:
            shortcut = self.downsample(a)
        return F.relu(self.bn(self.conv(a)) + shortcut)


def test_a_projected_shortcut_is_optional():
    def build():
        return nn.Sequential(Down(3, 6, 2), Down(6, 6), Down(6, 6), Down(6, 8, 2), Down(8, 8))

    result = ported(build, 2, 3, 8, 8)
    assert classes(result) == ["Down"]
    assert '"downsample" in self' in result.port.model_py


def test_a_residual_that_only_some_have():
    class Inverted(nn.Module):
        def __init__(self, inp, out):
            super().__init__()
            self.fc = nn.Linear(inp, out)
            self.skip = inp == out

        def forward(self, a):
            h = F.relu(self.fc(a))
            return a + h if self.skip else h

    result = ported(
        lambda: nn.Sequential(Inverted(6, 8), Inverted(8, 8), Inverted(8, 6), Inverted(6, 6)), 2, 6
    )
    assert classes(result) == ["Inverted"]


def test_a_branch_of_several_statements_is_written_once():
    """Where a block lacks the branch, its input goes on."""

    class Scaled(nn.Module):
        def __init__(self, factor: int | None):
            super().__init__()
            self.conv, self.out, self.factor = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), factor

        def forward(self, image):
            image = self.conv(image)
            if self.factor is not None:
                image = F.interpolate(image, size=(9, 9), mode="bilinear")
            return self.out(image)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = Scaled(None), Scaled(2), Scaled(None)

        def forward(self, image):
            return self.c(self.b(self.a(image)))

    ported = port_of(Net, (x(2, 4, 5, 5),))
    ported.check(x(2, 4, 5, 5))
    check_source(ported.port.model_py)
    assert ported.port.model_py.count("        if ") == 1


def test_blocks_that_lack_different_parts_of_a_sum_are_two_classes():
    """Without the first summand the second goes on, and without the second the first: no one array takes the sum's place."""

    class Sum(nn.Module):
        def __init__(self, first: bool, second: bool):
            super().__init__()
            self.first = nn.LayerNorm(6) if first else None
            self.second = nn.Linear(6, 6) if second else None
            self.out = nn.Linear(6, 6)

        def forward(self, a):
            total = None if self.first is None else self.first(a)
            if self.second is not None:
                total = self.second(a) if total is None else total + self.second(a)
            return self.out(total)

    blocks = [lambda f=f, s=s: Sum(f, s) for f, s in ((True, True), (False, True), (True, False))]
    result = ported(net(*blocks, loop=False), 2, 6)
    assert len(classes(result)) == 2


def test_activations_in_a_sequential_may_differ_by_instance():
    class Part(nn.Module):
        def __init__(self, activation):
            super().__init__()
            self.block = nn.Sequential(
                nn.Sequential(nn.Linear(6, 6), activation()), nn.Sequential(nn.Linear(6, 6))
            )

        def forward(self, a):
            return a + self.block(a)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Part(nn.ReLU), Part(nn.Hardswish)
            self.third = Part(nn.ReLU)

        def forward(self, a):
            return self.third(self.second(self.first(a)))

    ported = port_of(Net, (x(2, 6),))
    ported.check(x(2, 6))
    check_source(ported.port.model_py)
    assert ported.port.model_py.count("class Part") == 1


class PooledAttention(nn.Module):
    """Queries are pooled in some blocks, keys in all."""

    def __init__(self, pooled: bool):
        super().__init__()
        self.q, self.k = nn.Linear(6, 6), nn.Linear(6, 6)
        if pooled:
            self.pool_q, self.norm_q = nn.Conv2d(6, 6, 3, padding=1), nn.LayerNorm(6)
        self.pool_k, self.norm_k = nn.Conv2d(6, 6, 3, padding=1), nn.LayerNorm(6)

    def pool(self, a, conv, norm):
        if conv is None:
            return a
        first, rest = a[:, :1], a[:, 1:]
        rest = conv(rest.reshape(a.shape[0], 4, 4, a.shape[2]).permute(0, 3, 1, 2))
        return norm(torch.cat([first, rest.flatten(2).transpose(1, 2)], 1))

    def forward(self, a):
        q = self.pool(self.q(a), getattr(self, "pool_q", None), getattr(self, "norm_q", None))
        k = self.pool(self.k(a), self.pool_k, self.norm_k)
        return a + torch.tanh(q) * k


def test_behind_a_branch_no_size_is_read_off_what_it_makes():
    result = ported(net(lambda: PooledAttention(True), lambda: PooledAttention(False)), 2, 17, 6)
    assert classes(result) == ["PooledAttention"]


class TwoScales(nn.Module):
    """Pools before everything where it halves, and before its second branch in any case, as octave convolutions do."""

    def __init__(self, dim: int, halves: bool):
        super().__init__()
        self.halves = halves
        self.fine, self.coarse = nn.Conv2d(dim, dim, 1), nn.Conv2d(dim, dim, 1)

    def forward(self, a):
        if self.halves:
            a = F.avg_pool2d(a, 2)
        return F.interpolate(self.coarse(F.avg_pool2d(a, 2)), scale_factor=2) + self.fine(a)


def test_a_pooling_of_two_places_is_asked_for_by_neither():
    blocks = [lambda: TwoScales(4, True), lambda: TwoScales(4, False)]
    result = ported(net(*blocks, loop=False), 2, 4, 8, 16)
    assert classes(result) == ["TwoScales"]
    assert '"avgpool" in self' not in result.port.model_py
