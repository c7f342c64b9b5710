"""known_buffers: a forward may branch on its own flags and numbers."""

import numpy as np
import torch
from torch import nn

from porter.frontends.export import export_program
from porter.sources import SourceOptions
from porter.sources.built import built_source
from porter.weights.readers import TensorSpec
from tests.random_modules.parity import port_of


class Flagged(nn.Module):
    """An ActNorm that was initialized, a kind for each column, a number of rounds."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(3, 3)
        self.register_buffer("initialized", torch.tensor([1.0]))
        self.register_buffer("kinds", torch.tensor([True, False, True]))
        self.register_buffer("rounds", torch.tensor(2))

    def forward(self, x):
        if not self.initialized:
            x = x + 100
        columns = [x[:, i] if kind else -x[:, i] for i, kind in enumerate(self.kinds)]
        x = torch.stack(columns, dim=1)
        for _ in range(self.rounds.item()):
            x = torch.tanh(self.lin(x))
        return x


def test_branches_are_those_of_the_buffers_values():
    ported = port_of(Flagged, [torch.randn(2, 3)])
    assert any("among its buffers" in note for note in ported.port.notes)
    ported.check(torch.randn(4, 3))


class Padded(nn.Module):
    """Pads by a number that it holds, and to whole frames: the length of a codec's convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 5, stride=2)
        self.register_buffer("padding", torch.tensor(3), persistent=False)
        self.register_buffer("stride", torch.tensor(2), persistent=False)

    def forward(self, x):
        frames = torch.ceil((x.shape[-1] - 5 + self.padding) / self.stride + 1).long() - 1
        extra = frames * self.stride + 5 - self.padding - x.shape[-1]
        return self.conv(nn.functional.pad(x, (self.padding, extra)))


def test_a_size_that_is_read_off_a_buffer_is_a_number():
    """Torch exports it as a size that depends on the data; at one length it is known."""
    ported = port_of(Padded, [torch.randn(2, 3, 16)], dynamic={"x": {0: "batch", 2: "length"}})
    ported.check(torch.randn(5, 3, 16))
    assert any("length" in note or "only batch" in note for note in ported.port.notes)


class Stored(dict):
    """A checkpoint that holds the flag alone."""

    def read(self, key):
        return self[key]

    def spec(self, key):
        return TensorSpec("float32", self[key].shape)


def test_the_checkpoint_s_value_goes_before_the_module_s():
    module = Flagged().eval()
    source = built_source(
        "t", SourceOptions(), "factory", "t", module, (torch.randn(2, 3),), {}, None, {}
    )
    source.tensors = Stored(initialized=np.zeros(1, np.float32))
    program, _ = export_program(source)
    assert "100" in str(program.graph)
    assert float(module.initialized) == 1.0
