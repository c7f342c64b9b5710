"""Which dims of the inputs the exported graph leaves free, and what they are called."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from porter.frontends.export import export_program
from porter.sources.built import from_module
from tests.passes.programs import Fn, x
from tests.random_modules.parity import port_of


class Capitals(torch.nn.Module):
    def forward(self, X, Y):  # noqa: N803
        return X + Y.mean(1, keepdim=True)


def test_dims_of_inputs_in_capitals_have_their_names():
    ported = port_of(Capitals, [torch.randn(2, 5, 3), torch.randn(2, 7, 3)])
    ported.check(torch.randn(3, 4, 3), torch.randn(3, 6, 3))
    assert [given["shape"][0] for given in ported.port.inputs] == ["batch", "batch"]
    assert "length" in ported.port.inputs[0]["shape"]


class TwoLengths(nn.Module):
    """Queries look at a memory of another length."""

    def forward(self, batch, extra):
        scores = batch["x"] @ batch["memory"].transpose(1, 2)
        return scores.softmax(-1) @ batch["memory"] + extra[0]


def test_a_second_length_and_inputs_inside_dicts_may_change():
    args = ({"x": x(2, 5, 4), "memory": x(2, 7, 4)}, [x(2, 5, 4)])
    ported = port_of(TwoLengths, args)
    assert [given["shape"] for given in ported.port.inputs] == [
        ["batch", "length", "width"],
        ["batch", "batch_memory_length", "width"],
        ["batch", "length", "width"],
    ]
    assert ported.port.notes == []


def test_a_guard_of_an_input_inside_a_dict_is_told():
    class Padded(nn.Module):
        def forward(self, batch):
            a = batch["x"]
            return functional.pad(a, (0, 0, 1, 0)) if a.shape[1] % 2 else a * 2

    _, (note,) = export_program(from_module(Padded(), ({"x": x(2, 6, 4)},)))
    assert "length % 2" in note


def test_a_source_that_fake_tensors_cannot_run_is_told_of_its_guards():
    class Caching(nn.Module):
        """Keeps what it computed for the longest text so far, as rotary embeddings do."""

        def __init__(self):
            super().__init__()
            self.register_buffer("angles", torch.zeros(64, 4), persistent=False)
            self.known = 0

        def forward(self, a):
            if a.shape[1] > self.known:
                self.angles[: a.shape[1]] = torch.arange(a.shape[1])[:, None] * torch.ones(4).to(a)
                self.known = a.shape[1]
            return a + self.angles[: a.shape[1]]

    module = Caching()
    module(x(2, 6, 4))
    _, notes = export_program(from_module(module, (x(2, 6, 4),)))
    assert notes == [
        "the port holds where length <= 6: at another length the source does something else"
    ]


def test_axes_that_the_graph_makes_one_have_one_name():
    def edges(nodes, pairs, weights):
        return nodes.index_add(0, pairs[1], nodes[pairs[0]] * weights)

    pairs = torch.randint(0, 6, (2, 9))
    ported = port_of(lambda: Fn(edges), (x(6, 4), pairs, x(9, 1)))
    assert ported.port.inputs[2]["shape"][0] == ported.port.inputs[1]["shape"][1] != 9
