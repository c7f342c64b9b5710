"""fuse_activations: formulas that get their name, and near misses that must not."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from porter.passes.fuse.fuse_activations import fuse_activations
from tests.passes.programs import Fn, ops, rewritten, x

C = math.sqrt(2 / math.pi)

FUSED = {
    "silu": (lambda a: a * torch.sigmoid(a), "nn.silu"),
    "silu, gate first": (lambda a: a.sigmoid() * a, "nn.silu"),
    "quick gelu": (lambda a: a * torch.sigmoid(1.702 * a), "nn.gelu_fast_approx"),
    "quick gelu, turned": (lambda a: torch.sigmoid(a * 1.702) * a, "nn.gelu_fast_approx"),
    "gelu by erf": (lambda a: a * 0.5 * (1.0 + torch.erf(a / math.sqrt(2.0))), "nn.gelu"),
    "gelu by erf, a product": (
        lambda a: 0.5 * a * (torch.erf(a * math.sqrt(0.5)) + 1.0),
        "nn.gelu",
    ),
    "gelu by erf, gate first": (
        lambda a: (1 + torch.erf(a / math.sqrt(2.0))) * (0.5 * a),
        "nn.gelu",
    ),
    "gelu by tanh": (
        lambda a: 0.5 * a * (1.0 + torch.tanh(C * (a + 0.044715 * torch.pow(a, 3.0)))),
        "nn.gelu_approx",
    ),
    "gelu by tanh, turned": (
        lambda a: (torch.tanh((0.044715 * a**3 + a) * C) + 1) * (a * 0.5),
        "nn.gelu_approx",
    ),
    "gelu by erf, halved last": (
        lambda a: 0.5 * (a * (1 + torch.erf(a / math.sqrt(2.0)))),
        "nn.gelu",
    ),
    "log-softmax": (lambda a: torch.log(a.softmax(-1)), "nn.log_softmax"),
    "gelu by erf, divided": (lambda a: a * (1 + torch.erf(a / math.sqrt(2.0))) / 2, "nn.gelu"),
    "gelu by tanh, a product of three": (
        lambda a: a * (0.5 * (1 + torch.tanh(C * (a + 0.044715 * (a * a * a))))),
        "nn.gelu_approx",
    ),
    "gelu by tanh, x drawn out": (
        lambda a: a * 0.5 * (1.0 + torch.tanh(C * a * (1 + 0.044715 * a * a))),
        "nn.gelu_approx",
    ),
    "mish": (lambda a: a * torch.tanh(F.softplus(a)), "nn.mish"),
    "hardswish": (lambda a: a * F.relu6(a + 3) / 6, "nn.hardswish"),
    "hardswish by a gate": (lambda a: a * (F.relu6(a + 3) / 6), "nn.hardswish"),
    "within a product": (lambda a: a * ((c := a.cos()) * torch.sigmoid(c)), "nn.silu"),
}


@pytest.mark.parametrize(("forward", "name"), FUSED.values(), ids=FUSED)
def test_formulas_get_their_names(forward, name):
    program, (count,) = rewritten(Fn(forward), [x(4, 7) * 2], fuse_activations)
    assert count == 1
    assert ops(program)[name] == 1
    assert not {"mx.sigmoid", "mx.erf", "mx.tanh"} & set(ops(program))


NEAR_MISSES = {
    "1.7 for 1.702": lambda a: a * torch.sigmoid(1.7 * a),
    "-1.702": lambda a: a * torch.sigmoid(-1.702 * a),
    "sigmoid of something else": lambda a: a * torch.sigmoid(a + 1),
    "gate of another array": lambda a: a * torch.sigmoid(a.flip(0)),
    "0.6 for 0.5": lambda a: 0.6 * a * (1 + torch.erf(a / math.sqrt(2.0))),
    "erf(x / 1.4)": lambda a: 0.5 * a * (1 + torch.erf(a / 1.4)),
    "erf(x / sqrt 2) of another array": lambda a: (
        0.5 * a * (1 + torch.erf(a.flip(0) / math.sqrt(2.0)))
    ),
    "2 for 1": lambda a: 0.5 * a * (2 + torch.erf(a / math.sqrt(2.0))),
    "minus": lambda a: 0.5 * a * (1 - torch.erf(a / math.sqrt(2.0))),
    "erf(x * sqrt 2)": lambda a: 0.5 * a * (1 + torch.erf(a * math.sqrt(2.0))),
    "erf(sqrt 2 / x)": lambda a: 0.5 * a * (1 + torch.erf(math.sqrt(2.0) / a)),
    "0.045 for 0.044715": lambda a: 0.5 * a * (1 + torch.tanh(C * (a + 0.045 * a**3))),
    "a square for the cube": lambda a: 0.5 * a * (1 + torch.tanh(C * (a + 0.044715 * a**2))),
    "0.8 for sqrt(2 / pi)": lambda a: 0.5 * a * (1 + torch.tanh(0.8 * (a + 0.044715 * a**3))),
}


@pytest.mark.parametrize("forward", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses_stay_spelled_out(forward):
    program, (count,) = rewritten(Fn(forward), [x(4, 7) * 2], fuse_activations)
    assert count == 0
    assert not any(op.startswith("nn.") for op in ops(program))


def test_a_gate_that_is_read_elsewhere_stays():
    program, (count,) = rewritten(
        lambda a: (a * a.sigmoid(), a.sigmoid() + 1), [x(3, 4)], fuse_activations
    )
    assert count == 1
    assert ops(program) == {"nn.silu": 1, "mx.sigmoid": 1, "+": 1}


def test_torch_names_them_already():
    program, (count,) = rewritten(
        lambda a: F.silu(a) + F.gelu(a) + F.gelu(a, approximate="tanh"), [x(3, 4)], fuse_activations
    )
    assert count == 0
    assert {"nn.silu", "nn.gelu", "nn.gelu_approx"} <= set(ops(program))
