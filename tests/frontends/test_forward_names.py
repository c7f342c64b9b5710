"""The forwards of a port call what they are given as their author does. Every port is run and compared."""

from __future__ import annotations

import torch
from torch import nn

from tests.random_modules.parity import check_source, port_of


class Mix(nn.Module):
    """Reads its second array first."""

    def __init__(self):
        super().__init__()
        self.key, self.value = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, query, context, scale=2.0):
        keys = torch.tanh(self.key(context)) * scale
        return torch.sigmoid(self.value(query)) * keys + query


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix, self.norm = Mix(), nn.LayerNorm(4)

    def forward(self, hidden, memory):
        mixed = self.mix(hidden, context=memory)
        return self.norm(mixed) * mixed


class Net(nn.Module):
    def __init__(self, layer: type[nn.Module]):
        super().__init__()
        self.encoder, self.layer = (
            nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)),
            layer(),
        )

    def forward(self, tokens, extra):
        encoded = self.encoder(extra)
        return self.layer(tokens, encoded) + encoded.exp()


def text_of(layer: type[nn.Module]) -> str:
    ported = port_of(lambda: Net(layer), (torch.randn(2, 3, 4), torch.randn(2, 3, 4)))
    ported.check(torch.randn(2, 3, 4), torch.randn(2, 3, 4))
    check_source(ported.port.model_py)
    return ported.port.model_py


def test_parameters_have_their_names_and_their_order():
    text = text_of(Layer)
    assert "def __call__(self, x: mx.array, context: mx.array) -> mx.array:" in text
    assert "def __call__(self, x: mx.array, memory: mx.array) -> mx.array:" in text
    assert "mixed = self.mix(x, memory)" in text
    assert "encoded = self.encoder(extra)" in text


def test_a_sum_of_two_parameters_is_told_by_its_sides():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.fc = nn.LayerNorm(4), nn.Linear(4, 4)

        def forward(self, states, shift):
            return self.fc(self.norm(states - shift))

    text = text_of(Shifted)
    assert "def __call__(self, x: mx.array, shift: mx.array) -> mx.array:" in text
    assert "self.norm(x - shift)" in text


def test_what_a_line_does_not_tell_keeps_a_plain_name():
    class Starred(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = Mix()

        def forward(self, *arrays):
            return self.mix(*arrays).exp()

    text = text_of(Starred)
    assert "arrays" not in text
    assert "context: mx.array" in text  # of the inner one


def test_a_changed_parameter_is_not_what_was_given():
    class Changed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, states, other):
            states = self.a(states)
            other, states = states, other
            return self.b(states) * torch.tanh(other)

    text = text_of(Changed)
    assert "def __call__(self, x: mx.array, " in text
    assert "other: mx.array" not in text


def test_a_local_that_is_opened_names_no_array():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = Mix()

        def forward(self, states, other):
            return self.mix(states, other), other

    class Opened(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair, self.fc = Pair(), nn.Linear(4, 4)

        def forward(self, states, other):
            outputs = self.pair(states, other)
            mixed = outputs[0]
            return self.fc(mixed) * torch.tanh(mixed)

    assert "outputs = " not in text_of(Opened)


def test_several_results_have_the_names_of_their_places():
    class Norms(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.LayerNorm(4), nn.LayerNorm(4)

        def forward(self, a, b):
            return self.first(a).contiguous(), self.second(b)

    class Gates(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 8)

        def forward(self, a):
            shift, scale = self.fc(a).chunk(2, dim=-1)
            scale = torch.sigmoid(scale)
            return scale, shift

    class Pairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.norms, self.gates = Norms(), Gates()

        def forward(self, states, other):
            query, key = self.norms(states, other)
            gate, bias = self.gates(query)
            return query * gate + key.tanh() * query + bias * key

    text = text_of(Pairs)
    assert "query, key = self.norms(x, other)" in text
    assert "gate" in text.partition("self.gates(query)")[0].rpartition("\n")[2]
