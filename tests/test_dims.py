"""Dims that a port takes at any size, and those that it says stay fixed."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from tests.random_modules.parity import port_of

BATCH = {0: "batch"}
TOKENS = {0: "batch", 1: "length"}
IMAGE = {0: "batch", 2: "height", 3: "width"}


class TwoUpsamplings(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return F.interpolate(x, scale_factor=2) + F.interpolate(self.conv(x), scale_factor=2)


def test_two_upsamplings_of_a_fixed_size() -> None:
    result = port_of(TwoUpsamplings, (torch.randn(2, 3, 8, 8),), {"x": BATCH})
    result.check(torch.randn(3, 3, 8, 8))


def test_two_upsamplings_of_any_size() -> None:
    result = port_of(TwoUpsamplings, (torch.randn(2, 3, 8, 8),), {"x": IMAGE})
    result.check(torch.randn(2, 3, 8, 8))
    result.check(torch.randn(1, 3, 12, 6))


class Up(nn.Module):
    def forward(self, x):
        return F.max_pool2d(F.interpolate(x, scale_factor=2), 2)


class Pyramid(nn.Module):
    """The upsampled sizes are no array's before they are made, and are asked for twice."""

    def __init__(self):
        super().__init__()
        self.a, self.b = Up(), Up()

    def forward(self, x):
        return self.a(x) + self.b(x)


def test_sizes_that_only_a_later_array_has() -> None:
    result = port_of(Pyramid, (torch.randn(2, 3, 8, 8),), {"x": IMAGE})
    result.check(torch.randn(2, 3, 8, 8))
    result.check(torch.randn(1, 3, 12, 6))


class Windows(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.out = nn.LayerNorm(5), nn.Linear(5, 5)

    def forward(self, x, size):
        height, width = size
        return self.out(self.norm(x).view(x.shape[0], height, width, -1).mean(2))


class Tokens(nn.Module):
    """The inner module is told the height and width as numbers: no array there has them."""

    def __init__(self, wider: int = 1):
        super().__init__()
        self.mix = Windows()
        self.proj = nn.Linear(3, 5)
        self.wider = wider

    def forward(self, x):
        height, width = x.shape[2:]
        tokens = self.proj(x.flatten(2).transpose(1, 2))
        return self.mix(tokens, (height // self.wider, width * self.wider))


def test_a_size_that_a_module_is_told_is_handed_to_it() -> None:
    result = port_of(Tokens, (torch.randn(2, 3, 8, 6),), {"x": IMAGE})
    assert not any("stayed fixed" in note for note in result.port.notes)
    result.check(torch.randn(3, 3, 6, 10))


def test_sizes_that_are_worked_out_are_handed_too() -> None:
    result = port_of(lambda: Tokens(2), (torch.randn(2, 3, 8, 6),), {"x": IMAGE})
    assert not any("stayed fixed" in note for note in result.port.notes)
    result.check(torch.randn(3, 3, 6, 10))


class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(5, 5)

    def forward(self, x, size):
        return self.out(x).view(x.shape[0], *size, -1).mean((2, 3))


class Volume(nn.Module):
    """Of three sizes that the inner module is told, one is an array's, and the others are none's."""

    def __init__(self):
        super().__init__()
        self.mix, self.proj = Cells(), nn.Linear(3, 5)

    def forward(self, x):
        frames, height, width = x.shape[2:]
        tokens = self.proj(x.flatten(2).transpose(1, 2))
        return self.mix(tokens, (frames, height * 2, width // 2))


VOLUME = {"x": {0: "batch", 2: "frames", 3: "height", 4: "width"}}


def test_three_sizes_are_handed() -> None:
    result = port_of(Volume, (torch.randn(2, 3, 5, 8, 6),), VOLUME)
    assert not any("stayed fixed" in note for note in result.port.notes)
    result.check(torch.randn(3, 3, 4, 5, 10))


class Ramp(nn.Module):
    """Told a size that an array has, and one that is made of two."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(5, 5)

    def forward(self, x, frames, around):
        rows = self.out(x.view(x.shape[0], frames, -1, 5).mean(2))
        return rows[:, :, None] * torch.arange(around, dtype=x.dtype)[:, None]


class Around(Volume):
    def __init__(self):
        super().__init__()
        self.mix = Ramp()

    def forward(self, x):
        frames, height, width = x.shape[2:]
        return self.mix(self.proj(x.flatten(2).transpose(1, 2)), frames, height + width)


def test_a_size_is_handed_once_though_another_is_out_of_reach() -> None:
    result = port_of(Around, (torch.randn(2, 3, 5, 8, 6),), VOLUME)
    assert any(
        "stayed fixed: a size made of it is in no array" in note for note in result.port.notes
    )
    assert result.port.inputs[0]["shape"].count("batch") == 1
    result.check(torch.randn(3, 3, 5, 8, 6))


class Merge(nn.Module):
    """Pictures are taken apart one by one, so that their number is fixed; the text's must be too."""

    def forward(self, text, image):
        features = torch.cat([part.sum(-1) for part in image])
        return text.masked_scatter(text > 0, features)


def test_a_dim_that_one_input_fixes_is_fixed_in_all() -> None:
    dims = {"text": {0: "batch"}, "image": {0: "batch"}}
    result = port_of(Merge, (torch.randn(2, 3), torch.randn(2, 8, 4)), dims)
    assert result.port.inputs[0]["shape"] == [2, 3]
    assert any("batch stayed fixed" in note for note in result.port.notes)
    result.check(torch.randn(2, 3), torch.randn(2, 8, 4))


class Tagger(nn.Module):
    def __init__(self, kind: type[nn.Module], batch_first: bool):
        super().__init__()
        self.rnn = kind(4, 5, bidirectional=True, batch_first=batch_first)
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_take_any_number_of_steps(kind: type[nn.Module]) -> None:
    result = port_of(lambda: Tagger(kind, True), (torch.randn(2, 7, 4),), {"x": TOKENS})
    assert result.port.inputs[0]["shape"] == ["batch", "length", 4]
    result.check(torch.randn(3, 11, 4))
    steps_first = port_of(
        lambda: Tagger(kind, False), (torch.randn(7, 2, 4),), {"x": {0: "length", 1: "batch"}}
    )
    assert steps_first.port.inputs[0]["shape"] == ["length", "batch", 4]
    steps_first.check(torch.randn(5, 3, 4))


class Trimmed(nn.Module):
    """Pads as much as a formula of the width says, and cuts the ends of the transposed convolutions off."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList([
            nn.ConvTranspose1d(4, 4, 8, 4), nn.ConvTranspose1d(4, 4, 6, 3)
        ])  # fmt: skip

    def forward(self, x):
        x = F.pad(x, (0, math.ceil((x.shape[-1] - 1) / 1 + 1) - x.shape[-1]))
        for stage in self.stages:
            cut = stage.kernel_size[0] - stage.stride[0]
            x = F.elu(stage(x))
            x = x[..., cut // 2 : x.shape[-1] - (cut - cut // 2)]
        return x


def test_ends_are_counted_from_the_end() -> None:
    result = port_of(Trimmed, (torch.randn(2, 4, 8),), {"x": {0: "batch", 2: "width"}})
    assert result.port.inputs[0]["shape"] == ["batch", "width", 4]
    assert "[:, 2:-2]" in result.port.model_py
    assert "elu(self.stages[0](x))" in result.port.model_py
    result.check(torch.randn(3, 4, 13))


class Upto(nn.Module):
    """Goes another way at any width but one."""

    def forward(self, x):
        return x.cumsum(-1) if math.ceil(x.shape[-1] / 2 + 0.5) == 8 else x


def test_a_guard_by_a_formula_fixes_the_dim() -> None:
    result = port_of(Upto, (torch.randn(2, 3, 14),), {"x": {0: "batch", 2: "width"}})
    assert 14 in result.port.inputs[0]["shape"]
    result.check(torch.randn(4, 3, 14))


class Positions(nn.Module):
    """A table of positions, resized to the map: the scale is a quotient of two sizes, and no whole number."""

    def __init__(self, grid: int = 8, width: int = 6):
        super().__init__()
        self.proj = nn.Conv2d(3, width, 4, stride=4)
        self.table = nn.Parameter(torch.randn(1, width, grid, grid))

    def forward(self, x):
        x = self.proj(x)
        table = F.interpolate(self.table, size=x.shape[-2:], mode="bilinear", antialias=True)
        return (x + table).flatten(2)


def test_scales_of_a_resized_table_are_real_numbers() -> None:
    result = port_of(Positions, (torch.randn(2, 3, 20, 24),), {"x": IMAGE})
    assert "//" not in result.port.model_py.partition("class Model")[2]
    assert "self.table.shape[1] / " in result.port.model_py
    for height, width in ((20, 24), (40, 12), (12, 52)):
        result.check(torch.randn(1, 3, height, width))
