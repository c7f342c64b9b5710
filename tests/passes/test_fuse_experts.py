"""fuse_experts: experts whose weights are gathered for every token."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.random_modules.parity import check_source, port_of

WIDTH, INNER, EXPERTS, CHOSEN = 8, 6, 5, 2


class Experts(nn.Module):
    """As transformers' batched experts; `turned` stores (experts, in, out), `biased` adds a bias of each expert."""

    def __init__(self, turned: bool, biased: bool, activation):
        super().__init__()
        self.turned, self.activation = turned, activation
        shapes = [(2 * INNER, WIDTH), (WIDTH, INNER)]
        shapes = [shape[::-1] for shape in shapes] if turned else shapes
        self.up, self.down = (nn.Parameter(torch.randn(EXPERTS, *shape)) for shape in shapes)
        self.up_bias = nn.Parameter(torch.randn(EXPERTS, 2 * INNER)) if biased else None
        self.down_bias = nn.Parameter(torch.randn(EXPERTS, WIDTH)) if biased else None

    def product(self, x, weight, bias, chosen):
        if self.turned:
            out = torch.bmm(x.unsqueeze(1), weight[chosen]).squeeze(1)
        else:
            out = torch.bmm(weight[chosen], x.unsqueeze(-1)).squeeze(-1)
        return out if bias is None else out + bias[chosen]

    def forward(self, x, experts, weights):
        rows = x.size(0)
        repeated, chosen = x.repeat_interleave(CHOSEN, dim=0), experts.reshape(-1)
        gate, up = self.product(repeated, self.up, self.up_bias, chosen).chunk(2, dim=-1)
        x = self.product(self.activation(gate) * up, self.down, self.down_bias, chosen)
        x = x * weights.reshape(-1).unsqueeze(-1)
        return x.view(rows, CHOSEN, -1).sum(dim=1)


class Mixture(nn.Module):
    def __init__(self, turned=False, biased=False, shared=False, activation=functional.silu):
        super().__init__()
        self.gate = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.experts = Experts(turned, biased, activation)
        self.shared = nn.Linear(WIDTH, WIDTH) if shared else None

    def forward(self, x):
        rows = x.view(-1, WIDTH)
        weights, chosen = self.gate(rows).softmax(dim=-1).topk(CHOSEN, dim=-1)
        result = self.experts(rows, chosen, weights / weights.sum(dim=-1, keepdim=True))
        if self.shared is not None:
            result = result + self.shared(rows)
        return result.reshape(x.shape)


def _checked(turned=False, **options):
    x = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(0))
    ported = port_of(lambda: Mixture(turned, **options), [x], {"x": {0: "batch", 1: "length"}})
    text = ported.port.model_py
    check_source(text)
    assert "repeat" not in text
    assert "flatten" not in text
    ported.check(x)
    ported.check(x[:1, :3])
    return text


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("more", ["", "biased", "shared"])
def test_gated(turned, more):
    text = _checked(turned, **({more: True} if more else {}))
    assert text.count("self.experts = SwitchGLU(") == 1
    assert "class Experts" not in text


def test_another_gate_keeps_its_products():
    text = _checked(activation=torch.sigmoid)
    assert text.count("= SwitchLinear(") == 2
