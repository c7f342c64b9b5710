"""hoist_concatenate: dense blocks."""

import torch
from torch import nn

from porter.passes.hoist_concatenate import hoist_concatenate
from tests.passes.programs import ops, rewritten, x


class Layer(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, 2)

    def forward(self, features):
        return self.linear(torch.cat(features, -1))


class Dense(nn.Module):
    def __init__(self, layers: int = 4):
        super().__init__()
        self.layers = nn.ModuleList(Layer(3 + 2 * i) for i in range(layers))

    def forward(self, a):
        features = [a]
        for layer in self.layers:
            features.append(layer(features))
        return torch.cat(features, -1)


def concatenations(program):
    return [node for node in program.nodes if node.op == "mx.concatenate"]


def test_each_concatenation_extends_the_one_before():
    program, (count,) = rewritten(Dense(), [x(2, 3)], hoist_concatenate)
    assert count == 3
    assert [len(node.args[0]) for node in concatenations(program)][1:] == [2, 2, 2]


def test_they_leave_the_layers():
    """So each layer takes one array."""
    program, _ = rewritten(Dense(), [x(2, 3)], hoist_concatenate)
    assert all(len(node.scope) == 0 for node in concatenations(program)[1:])


def test_other_axes_are_told_apart():
    _program, (count,) = rewritten(
        lambda a: torch.cat([torch.cat([a, a], 0), torch.cat([a, a, a], 1).reshape(6, 2)]),
        [x(2, 2)],
        hoist_concatenate,
    )
    assert count == 0


def test_another_order_is_told_apart():
    program, (count,) = rewritten(
        lambda a: (torch.cat([a, a * 2]), torch.cat([a * 2, a, a])), [x(2, 2)], hoist_concatenate
    )
    assert count == 0
    assert ops(program)["mx.concatenate"] == 2


def test_what_stands_alone_keeps_its_place():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = Layer(6)

        def forward(self, a):
            return self.layer([a, a + 1])

    program, (count,) = rewritten(Net(), [x(2, 3)], hoist_concatenate)
    assert count == 0
    assert concatenations(program)[0].scope[-1].path == "layer"
