"""group_rows: `for first, second in self.layers` is a loop over layers of one class."""

import torch
from torch import nn

from tests.random_modules.parity import check_source, port_of

WIDTH = 8


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        return self.down(torch.relu(self.up(x)))


class Mixer(nn.Module):
    """Its rows are lists, or dicts, of a norm and two mixers, with residual sums between."""

    def __init__(self, width=WIDTH, depth=3, named=False):
        super().__init__()
        self.named = named
        rows = ([nn.LayerNorm(width), Mlp(width), nn.Linear(width, width)] for _ in range(depth))
        self.layers = nn.ModuleList(
            nn.ModuleDict(zip(("norm", "mlp", "out"), row, strict=True))
            if named
            else nn.ModuleList(row)
            for row in rows
        )
        self.last = nn.LayerNorm(width)

    def forward(self, x):
        for row in self.layers:
            norm, mlp, out = row.values() if self.named else row
            x = mlp(norm(x)) + x
            x = torch.tanh(out(x)) + x
        return self.last(x)


def _ported(build):
    x = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(0))
    ported = port_of(build, [x], {"x": {0: "batch", 1: "length"}})
    check_source(ported.port.model_py)
    ported.check(x[:1, :3])
    return ported.port


def test_lists():
    port = _ported(Mixer)
    assert "for layer in self.layers:" in port.model_py
    assert port.config["depth"] == 3
    assert len([k for k in port.recipes if k.endswith("mlp.up.weight") or ".up." in k]) == 6


def test_dicts_keep_the_checkpoint_s_keys():
    port = _ported(lambda: Mixer(named=True))
    assert "for layer in self.layers:" in port.model_py
    assert "layers.2.mlp.up.weight" in port.recipes


def test_two_depths_share_a_class():
    port = _ported(
        lambda: nn.Sequential(
            Mixer(depth=1), nn.Linear(WIDTH, WIDTH), Mixer(depth=3), Mixer(depth=2)
        )
    )
    assert port.model_py.count("class Mlp(") == 1


def test_rows_that_differ_stay_as_they_are():
    class Tapered(Mixer):
        def __init__(self):
            super().__init__()
            self.layers[1][2] = nn.Sequential(nn.Linear(WIDTH, 4), nn.Linear(4, WIDTH))

    port = _ported(Tapered)
    assert "class Layer(" not in port.model_py


class Towers(nn.Module):
    """Two mixers of one class, one of them with a single row."""

    def __init__(self):
        super().__init__()
        self.small, self.large = Mixer(depth=1), Mixer(depth=2)

    def forward(self, x):
        return self.large(self.small(x))


def test_lists_of_unequal_lengths_are_loaded_as_they_are():
    port = _ported(Towers)
    assert sum(".up." in path and "weight" in path for path in port.recipes) == 3
