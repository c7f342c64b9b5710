"""symbolic_lengths: `len(x)` of an author's fixes no dim."""

import torch
from torch import nn

from tests.random_modules.parity import port_of


class Lengths(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(12, 12)

    def forward(self, x):
        y = self.mix(x.reshape(len(x), -1))
        return y.reshape(len(y), 3, 4).mean(2)


class Counted(Lengths):
    """A length that has to be a number."""

    def forward(self, x):
        return self.mix(x.flatten(1)) * float(f"{len(x):d}")


def test_the_batch_stays_free():
    ported = port_of(Lengths, [torch.randn(2, 3, 4)])
    assert ported.port.inputs[0]["shape"][0] == "batch"
    ported.check(torch.randn(5, 3, 4))


def test_a_length_as_a_number():
    x = torch.randn(2, 3, 4)
    ported = port_of(Counted, [x])
    ported.check(x)
