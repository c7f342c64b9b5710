"""Runs on tensors that have shapes and no data."""

import pytest
import torch

from porter.sources.dry_run import FixedSize, dry_run


class Counting(torch.nn.Module):
    def forward(self, pixels):
        return torch.cat([pixels[i : i + 1] for i in range(pixels.shape[0])]) * 2


@pytest.mark.parametrize("module", [Counting(), torch.nn.Linear(4, 5)])
def test_a_size_that_is_to_be_any(module):
    name = "pixels" if isinstance(module, Counting) else "input"
    given = {name: torch.randn(3, 4)}
    assert dry_run(module, "forward", given).shape[0] == 3
    if isinstance(module, Counting):
        with pytest.raises(FixedSize, match="pixels"):
            dry_run(module, "forward", given, free=name)
    else:
        assert isinstance(dry_run(module, "forward", given, free=name).shape[0], torch.SymInt)
