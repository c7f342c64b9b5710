"""How many elements some axes have, where their sizes may change."""

import pytest
import torch
from torch import nn

from porter.frontends.export import export_program
from porter.sources.built import from_module


@pytest.mark.parametrize("sizes", [lambda x: x.size(), lambda x: x.shape])
def test_a_count_of_elements_fixes_no_size(sizes):
    class Counts(nn.Module):
        def forward(self, x):
            return x / sizes(x)[:-1].numel() + x.new_zeros(sizes(x)).sum()

    program, notes = export_program(from_module(Counts(), (torch.randn(3, 5, 4),)))
    assert notes == []
    x = torch.randn(2, 7, 4)
    torch.testing.assert_close(program.module()(x), x / 14)
