"""Forwards that hand on what they are given."""

from __future__ import annotations

import torch
from torch import nn

from porter.frontends.export import export_program
from tests.frontends.test_import_graph import source_of


class HandsOn(nn.Module):
    def forward(self, x, *args, **kwargs):
        return self.inner(x, *args, **kwargs)

    def inner(self, x, memory):
        return x + memory.mean(1, keepdim=True)


class Leaves(nn.Module):
    """As flow-matching UNets are called, which an ODE solver gives more than they need."""

    def forward(self, t, x, *args, **kwargs):
        return x * t[:, None]


def free_sizes(module: nn.Module, args: tuple, kwargs: dict | None = None) -> list[int]:
    source = source_of(module, args, kwargs)
    source.dynamic = {}
    program, notes = export_program(source)
    assert not any("stayed fixed" in note for note in notes)
    given = [node for node in program.graph.nodes if node.op == "placeholder"]
    return [sum(isinstance(n, torch.SymInt) for n in node.meta["val"].shape) for node in given]


def test_sizes_of_what_is_handed_on_by_name_are_free():
    x, memory = torch.randn(2, 5, 4), torch.randn(2, 3, 4)
    assert free_sizes(HandsOn(), (x,), {"memory": memory}) == [3, 3]
    assert free_sizes(HandsOn(), (x, memory)) == [3, 3]


def test_a_call_may_leave_the_rest_out():
    assert free_sizes(Leaves(), (torch.randn(3), torch.randn(3, 4))) == [1, 2]
