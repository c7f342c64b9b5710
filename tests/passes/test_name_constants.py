"""name_constants: what torch numbers as it lifts it is called what the author calls it."""

import torch
from torch import nn

from tests.random_modules.parity import check_source, port_of


def scaled(x):
    return x * torch.tensor([1.5, 2.5, 3.5]) + torch.tensor([0.5, 0.25, 0.125])


class Written(nn.Module):
    """Constants by a statement of their own, and inside of an expression."""

    def forward(self, x):
        mean = torch.tensor([0.4, 0.5, 0.6])
        return scaled(x - mean)


def test_constants_have_the_authors_names():
    x = torch.randn(2, 3)
    ported = port_of(Written, [x], {"x": {0: "batch"}})
    text = ported.port.model_py
    check_source(text)
    assert "lifted_tensor" not in text
    assert "x - self.mean" in text
    assert "self.constants[1]" in text
    ported.check(x)
