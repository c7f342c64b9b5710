"""fuse_swiglu: a decoder's gate is mlx-lm's function; another model, which imports mlx alone, keeps silu and a product."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.passes.test_lift_cache import TOKENS, WIDTH, Decoder, _ids
from tests.random_modules.parity import check_source, port_of


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.up = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.down = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x):
        return self.down(self.up(x) * functional.silu(self.gate(x)))


def _gated(causal):
    model = Decoder(windows=(None,), causal=causal)
    model.layers[0].mlp = Gate()
    return model


@pytest.mark.parametrize("causal", [True, False])
def test_gate(causal):
    ported = port_of(lambda: _gated(causal), [_ids()], TOKENS)
    check_source(ported.port.model_py)
    assert ("swiglu(self.gate(x), self.up(x))" in ported.port.model_py) == causal
    assert ("mlx_lm" in ported.port.model_py) == causal
    with torch.no_grad():
        ported.check(_ids(1))
