"""export_program: dims that may change, and attempts that fail."""

import torch
from torch import nn

from porter.frontends.export import export_program
from porter.sources import SourceOptions
from porter.sources.built import built_source


class OneSize(nn.Module):
    """What torch.export fails on where the size is a symbol: as its own solver does for some pools."""

    def forward(self, a):
        if isinstance(a.shape[1], torch.SymInt):
            raise NotImplementedError("this size is not to be a symbol")
        return a * 2


def test_an_attempt_that_fails_leaves_nothing_on_the_inputs():
    source = built_source(
        "test",
        SourceOptions(),
        "factory",
        "OneSize",
        OneSize(),
        (torch.randn(1, 6),),
        {},
        {"a": {1: "width"}},
        {},
    )
    program, notes = export_program(source)
    assert notes == ["every dim stayed fixed: this size is not to be a symbol"]
    assert not program.range_constraints
