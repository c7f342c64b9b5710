"""Graph.cut: the nodes between given values."""

import torch

from porter.validate.graph import Graph


class Norm(torch.nn.Module):
    """Gemma's way to get back to the input's dtype."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x):
        normed = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.linear(normed.type_as(x))


def test_a_layer_does_not_depend_on_an_array_of_its_inputs_dtype():
    module = Norm().eval()
    graph = Graph.bind(torch.export.export(module, (torch.ones(2, 4),)), module)
    names = {node.name.partition("_")[0]: node.name for node in graph.program.graph.nodes}
    given, wanted = names["mul"], names["linear"]
    nodes = graph.cut([given], [wanted])
    x = torch.randn(2, 4)
    (y,) = graph.run_cut(nodes, {given: x}, {}, [wanted], torch.float64)
    torch.testing.assert_close(y, module.double().linear(x.double()))
