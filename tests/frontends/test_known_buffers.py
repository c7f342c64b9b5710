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
