"""Programs of one structure are paired node by node; others are not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from porter.frontends.export import export_program
from porter.frontends.import_graph import import_program
from porter.ir import Program
from porter.ir.align import align
from porter.sources.built import from_module


class Net(nn.Module):
    def __init__(self, width: int, layers: int = 1, squared: bool = False):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.squared = squared

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x * x if self.squared else torch.tanh(x)


def program(*settings) -> Program:
    source = from_module(Net(*settings), (torch.randn(2, settings[0]),))
    return import_program(export_program(source)[0], source)


def test_another_width_is_paired():
    a, b = program(8), program(12)
    nodes, values = align(a, b)
    assert list(nodes.values()) == b.nodes
    assert values[a.inputs[0]] is b.inputs[0]
    weights = {v.path: v for v in a.parameters.values()}
    assert values[weights["layers.0.weight"]].shape == (12, 12)


@pytest.mark.parametrize("other", [(8, 2), (8, 1, True)])
def test_other_steps_are_not(other):
    assert align(program(8), program(*other)) is None
