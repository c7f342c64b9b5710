"""linearize_points and linearize_patches: convolutions that are products are nn.Linear."""

import torch
from torch import nn

from porter.style import check
from tests.passes.programs import ops, piped, x
from tests.random_modules.parity import check_source, port_of


class Gate(nn.Module):
    """gMLP's spatial gating unit: a convolution whose channels are the tokens."""

    def __init__(self, dim, tokens):
        super().__init__()
        self.norm, self.proj = nn.LayerNorm(dim), nn.Conv1d(tokens, tokens, 1)

    def forward(self, a):
        u, v = a.chunk(2, dim=-1)
        return u * self.proj(self.norm(v))


def test_a_convolution_over_tokens_is_a_linear():
    ported = port_of(lambda: nn.Sequential(nn.Linear(6, 8), Gate(4, 5)), [torch.randn(2, 5, 6)])
    ported.check(torch.randn(3, 5, 6))
    check_source(ported.port.model_py)
    assert "nn.Linear(" in ported.port.model_py
    assert "nn.Conv1d" not in ported.port.model_py
    assert not [f for f in check(ported.port.model_py) if f.check == "S5"]


def test_a_convolution_of_a_map_stays_one():
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1), nn.ReLU())
    assert ops(piped(net, [x(2, 3, 8, 8)]))["nn.Conv2d"] == 2


class Twice(nn.Module):
    """One layer for a map and for what is turned."""

    def __init__(self):
        super().__init__()
        self.stem, self.point = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1)

    def forward(self, a):
        a = self.point(self.stem(a))
        return self.point(a.permute(0, 2, 1, 3).reshape(a.shape[0], 6, 6, 6))


def test_a_layer_that_is_called_elsewhere_stays_what_it_is():
    a = torch.randn(2, 3, 6, 6)
    port_of(Twice, [a]).check(a)


class Patches(nn.Module):
    """Rows of cut patches, as a processor of Qwen-VL's kind gives them, through one convolution each."""

    def __init__(self):
        super().__init__()
        self.proj, self.head = nn.Conv3d(3, 8, (2, 4, 4), (2, 4, 4)), nn.Linear(8, 5)

    def forward(self, rows):
        return self.head(self.proj(rows.view(-1, 3, 2, 4, 4)).view(-1, 8))


def test_patches_that_come_as_rows_are_multiplied():
    ported = port_of(Patches, [torch.randn(6, 96)])
    ported.check(torch.randn(9, 96))
    assert "nn.Conv" not in ported.port.model_py
    assert "self.head(self.proj(" in ported.port.model_py
    assert "transpose" not in ported.port.model_py


class PatchesAndMaps(Patches):
    def forward(self, rows, maps):
        return super().forward(rows), self.proj(maps)


def test_patches_of_a_layer_that_sees_maps_too_are_convolved():
    arrays = torch.randn(6, 96), torch.randn(2, 3, 4, 8, 8)
    ported = port_of(PatchesAndMaps, arrays)
    ported.check(*arrays)
    assert "nn.Conv3d" in ported.port.model_py


def test_rows_that_hold_several_windows_are_convolved():
    net = nn.Sequential(nn.Unflatten(1, (3, 8)), nn.Conv1d(3, 4, 4), nn.Flatten())
    assert ops(piped(net, [x(2, 24)]))["nn.Conv1d"] == 1
