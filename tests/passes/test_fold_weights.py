"""fold_weights: weights that follow from parameters alone are computed by their recipes."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from tests.random_modules.parity import check_source, port_of

CHANNELS = 6


class Standardized(nn.Conv2d):
    """Weight standardization, as of Qiao et al. 2019."""

    def forward(self, x):
        mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
        var = self.weight.var(dim=(1, 2, 3), keepdim=True, unbiased=False)
        weight = (self.weight - mean) / torch.sqrt(var + 1e-5)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


class Adapted(nn.Module):
    """A low-rank change of a weight, added before the product."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, CHANNELS))
        self.down, self.up = nn.Parameter(torch.randn(2, CHANNELS)), nn.Parameter(torch.randn(5, 2))

    def forward(self, x):
        return functional.linear(x, self.weight + 0.5 * (self.up @ self.down))


class KeysUnbiased(nn.Linear):
    """Queries, keys and values, of which the keys' part of the bias counts as zero."""

    def __init__(self):
        super().__init__(CHANNELS, 12)

    def forward(self, x):
        bias = self.bias.clone()
        bias[4:8].zero_()
        return functional.linear(x, self.weight, bias)


class JoinedBias(nn.Linear):
    """Biases of queries and values, with a constant between them that no checkpoint holds."""

    def __init__(self):
        super().__init__(CHANNELS, 12, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))
        self.register_buffer("k_bias", torch.zeros(4), persistent=False)

    def forward(self, x):
        bias = torch.cat((self.q_bias, self.k_bias, self.v_bias))
        return functional.linear(x, self.weight, bias)


LINES, IMAGES, ROWS = (2, CHANNELS, 12), (2, CHANNELS, 8, 8), (2, 3, CHANNELS)
CASES = {
    "weight norm": (
        lambda: parametrizations.weight_norm(nn.Conv1d(CHANNELS, 8, 3, padding=2, dilation=2)),
        LINES, "nn.Conv1d(",
    ),
    "weight norm by a hook": (
        lambda: nn.utils.weight_norm(nn.Conv1d(CHANNELS, 8, 3, groups=2)), LINES, "nn.Conv1d(",
    ),
    "weight norm over another axis": (
        lambda: nn.utils.weight_norm(nn.Conv1d(CHANNELS, 8, 3, bias=False), dim=2), LINES, "nn.Conv1d(",
    ),
    "transposed": (
        lambda: parametrizations.weight_norm(nn.ConvTranspose1d(CHANNELS, 8, 4, stride=2, padding=1)),
        LINES, "nn.ConvTranspose1d(",
    ),
    "a linear layer": (lambda: parametrizations.weight_norm(nn.Linear(CHANNELS, 4)), ROWS, "nn.Linear("),
    "spectral norm": (lambda: parametrizations.spectral_norm(nn.Conv2d(CHANNELS, 8, 3)), IMAGES, "nn.Conv2d("),
    "standardized": (lambda: Standardized(CHANNELS, 8, 3, stride=2), IMAGES, "nn.Conv2d("),
    "adapted": (Adapted, ROWS, "nn.Linear("),
    "a bias without that of keys": (KeysUnbiased, ROWS, "nn.Linear("),
    "a bias joined of parts": (JoinedBias, ROWS, "nn.Linear("),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize("name", CASES)
def test_folded(name):
    build, shape, layer = CASES[name]
    torch.manual_seed(0)
    x = torch.randn(shape)
    ported = port_of(lambda: nn.Sequential(build(), nn.Tanh()).eval(), [x], {"x": {0: "batch"}})
    text = ported.port.model_py
    check_source(text)
    assert layer in text
    for spelled in ("sqrt", "square", "sum(", "transpose(", "mx.conv", " @ ", "mx.concatenate"):
        assert spelled not in text
    ported.check(x)


def test_a_weight_made_of_the_input_stays_in_the_forward():
    class Modulated(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, CHANNELS))

        def forward(self, x):
            return functional.linear(x, self.weight * x.mean(dim=(0, 1)))

    x = torch.randn(ROWS)
    ported = port_of(Modulated, [x], {"x": {0: "batch"}})
    assert "nn.Linear" not in ported.port.model_py
    ported.check(x)


class Detr(nn.Module):
    """Attention whose queries, keys and values differ: torch cuts its packed weight in three; the memory's, in two."""

    def __init__(self):
        super().__init__()
        self.own, self.other = (nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))
        self.wide = nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True)
        self.place = nn.Parameter(torch.randn(5, 8))

    def forward(self, a, memory, wide):
        q = a + self.place
        a = a + self.own(q, q, a, need_weights=False)[0]
        a = a + self.other(a, memory, memory, need_weights=False)[0]
        return a + self.wide(a, wide, wide, need_weights=False)[0]


class Rows(nn.Module):
    """A packed matrix of the author's own, one of whose parts is read twice."""

    def __init__(self):
        super().__init__()
        self.gates = nn.Linear(6, 12)

    def forward(self, a):
        first, second = self.gates.weight.split([4, 8])
        low, high = self.gates.bias[:4], self.gates.bias[4:]
        x = torch.nn.functional.linear(a, first, low)
        return x.sum() + torch.nn.functional.linear(a, second, high) @ second


def test_packed_weights_are_the_layers_that_they_hold():
    x = [torch.randn(2, n, w) for n, w in ((5, 8), (7, 8), (4, 6))]
    ported = port_of(Detr, x)
    ported.check(*x)
    source = ported.port.model_py
    check_source(source)
    assert "self.q_proj(" in source
    assert "self.kv_proj(" in source
    assert "mx.split(self." not in source
    assert "_weight" not in source.partition("class ")[2]


def test_rows_of_an_author_s_own_matrix():
    ported = port_of(Rows, [torch.randn(3, 6)])
    ported.check(torch.randn(5, 6))
    check_source(ported.port.model_py)
    assert "nn.Linear(" in ported.port.model_py


class Speech(nn.Module):
    """Attention by torch's function, given the biases of three layers in one, as of WavLM."""

    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(12, 12) for _ in "qkvo")

    def forward(self, a):
        parts = self.q_proj, self.k_proj, self.v_proj
        weights = {
            f"{name}_proj_weight": part.weight for name, part in zip("qkv", parts, strict=True)
        }
        a = a.transpose(0, 1)
        out, _ = functional.multi_head_attention_forward(
            a, a, a, 12, 3, torch.empty(0), torch.cat([part.bias for part in parts]), None, None, False, 0.0,
            self.out_proj.weight, self.out_proj.bias, False, use_separate_proj_weight=True, **weights,
        )  # fmt: skip
        return out.transpose(0, 1)


def test_biases_that_are_joined_and_taken_apart_stay_their_layers_own():
    a = torch.randn(2, 5, 12)
    ported = port_of(Speech, [a])
    ported.check(a)
    check_source(ported.port.model_py)
    assert all(recipe.function == "source" for recipe in ported.port.recipes.values())


class Rotating(nn.Module):
    """A complex diagonal of real parameters: linear recurrent units."""

    def __init__(self):
        super().__init__()
        self.decay, self.angle = nn.Parameter(torch.rand(4)), nn.Parameter(torch.rand(4))
        self.real, self.imaginary = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(4, 6))

    def forward(self, a):
        diagonal = torch.exp(torch.complex(-torch.exp(self.decay), torch.exp(self.angle)))
        weight = torch.complex(self.real, self.imaginary)
        return ((a.to(weight.dtype) @ weight.T) * diagonal).real


def test_complex_weights_are_computed_by_the_forward():
    port_of(Rotating, [torch.randn(2, 6)]).check(torch.randn(3, 6))


class Cosine(nn.Module):
    """A classifier by angles, as of ArcFace."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(7, 6))

    def forward(self, a):
        rows = functional.normalize(self.weight)
        return 30 * functional.linear(functional.normalize(a), rows)


def test_normalized_rows_are_a_weight():
    ported = port_of(lambda: nn.Sequential(nn.Linear(5, 6), Cosine()), [torch.randn(3, 5)])
    ported.check(torch.randn(4, 5))
    check_source(ported.port.model_py)
    assert "mx.square(self." not in ported.port.model_py


class Decay(nn.Module):
    """A weight without the rest of its matrix, in each step of a loop: GRU-D."""

    def __init__(self):
        super().__init__()
        self.W, self.b = nn.Parameter(torch.randn(6, 6)), nn.Parameter(torch.randn(6))

    def forward(self, a):
        for _ in range(3):
            a = torch.tanh(functional.linear(a, self.W * self.W, self.b))
        return a


def test_a_weight_that_every_step_computes_is_one():
    ported = port_of(Decay, [torch.randn(2, 6)])
    ported.check(torch.randn(3, 6))
    check_source(ported.port.model_py)
    assert set(ported.port.recipes) == {"W", "b"}


class OwnNames(nn.Module):
    """Weights that are called nothing that a layer's are."""

    def __init__(self):
        super().__init__()
        self.W, self.b = nn.Parameter(torch.randn(5, 6)), nn.Parameter(torch.randn(5))
        self.weight_mu = nn.Parameter(torch.randn(4, 5))

    def forward(self, a):
        return functional.linear(functional.linear(a, self.W, self.b), self.weight_mu)


def test_a_weight_of_no_layer_is_stored_as_it_is_multiplied():
    ported = port_of(OwnNames, [torch.randn(2, 6)])
    ported.check(torch.randn(3, 6))
    assert "transpose" not in ported.port.model_py
    assert "@ self.W + self.b" in ported.port.model_py


class Looks(nn.Module):
    """Queries look at a memory one after the other, as decoders that write a token at a time."""

    def __init__(self):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, 4, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, memory):
        queries = self.queries.expand(memory.shape[0], -1, -1)
        rows = [self.attention(queries[:, i : i + 2], memory, memory)[0] for i in (0, 2)]
        return torch.cat(rows, 1)


def test_a_bias_of_several_calls_is_one():
    ported = port_of(Looks, (torch.randn(2, 5, 8),))
    ported.check(torch.randn(3, 6, 8))
    check_source(ported.port.model_py)
    assert "computed" not in ported.port.model_py
    assert "class MultiheadAttention(nn.Module)" in ported.port.model_py
