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


class Patches(nn.Module):
    """Windows along the tokens, and heads: a number beside the length, and one beside the batch."""

    def __init__(self, width: int, heads: int, by_batch: bool = False):
        super().__init__()
        self.out = nn.Linear(width, width)
        self.heads, self.by_batch = heads, by_batch

    def forward(self, x):
        batch, length, width = x.shape
        size = width // self.heads
        x = self.out(x).view(batch, length, self.heads, size).transpose(1, 2)
        return x.reshape(batch * self.heads, length, size) if self.by_batch else x * length


def traced(module: nn.Module, width: int, symbolic: bool) -> Program:
    source = from_module(module, (torch.randn(2, 7, width),))
    exported, _ = export_program(source, dynamic_dims=None if symbolic else frozenset())
    return import_program(exported, source)


def test_numbers_of_a_graph_without_symbolic_sizes_become_sizes_again():
    a = traced(Patches(8, 2), 8, symbolic=True)
    b = traced(Patches(12, 4), 12, symbolic=False)
    assert a.dims
    assert not b.dims
    nodes, values = align(a, b)
    assert values[a.inputs[0]].shape[:2] == a.inputs[0].shape[:2]
    assert values[a.inputs[0]].shape[2] == 12
    assert a.output_values()[0].shape != b.output_values()[0].shape
    assert [s for s in a.output_values()[0].shape if not isinstance(s, int)] == [
        s for s in b.output_values()[0].shape if not isinstance(s, int)
    ]
    assert list(nodes.values()) == b.nodes


def test_a_number_of_heads_beside_the_samples_is_followed():
    a = traced(Patches(8, 2, by_batch=True), 8, symbolic=True)
    for symbolic in (False, True):
        b = traced(Patches(12, 4, by_batch=True), 12, symbolic=symbolic)
        assert align(a, b) is not None
        assert b.output_values()[0].shape[0] / b.inputs[0].shape[0] == 4


class Shifted(Patches):
    """As many rows more than samples as there are heads."""

    def forward(self, x):
        return torch.cat([self.out(x), x.new_zeros(self.heads, *x.shape[1:])])


def test_another_number_in_a_symbolic_size_wants_a_symbolic_graph():
    a = traced(Shifted(8, 2), 8, symbolic=True)
    assert align(a, traced(Shifted(12, 4), 12, symbolic=False)) is None
    assert align(a, traced(Shifted(12, 4), 12, symbolic=True)) is not None
