"""The localiser names a known mistake only where the data proves it."""

from __future__ import annotations

import numpy as np
import pytest

from porter.report import ModuleResult
from porter.validate.localise import ACTIVATIONS, WIRING, culprits, hint

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 6, 8)) * 0.01
W, B = RNG.normal(1, 0.1, 8), RNG.normal(0, 0.1, 8)


def rms_norm(x, weight, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def layer_norm(x, eps):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * W + B


@pytest.mark.parametrize("eps", [1e-12, 1e-6, 1e-3])
def test_layer_norm_eps(eps):
    words = hint(
        "nn.LayerNorm", X, layer_norm(X, eps), None, {"weight": W, "bias": B}, {"eps": 1e-5}
    )
    assert words == f"matches exactly with eps={eps:g}; it has 1e-05"


def test_rms_norm_offset():
    words = hint("nn.RMSNorm", X, rms_norm(X, W + 1, 1e-6), None, {"weight": W}, {"eps": 1e-6})
    assert words == "matches exactly with 1 added to its weight"


def test_rms_norm_that_should_be_a_layer_norm():
    truth = layer_norm(X, 1e-6)
    words = hint("nn.RMSNorm", X, truth, None, {"weight": W, "bias": B}, {"eps": 1e-6})
    assert words == "matches exactly with taking the mean away"


def test_group_norm_eps():
    grouped = X.reshape(4, -1, 2, 4)
    mean, var = grouped.mean((1, 3), keepdims=True), grouped.var((1, 3), keepdims=True)
    truth = ((grouped - mean) / np.sqrt(var + 1e-6)).reshape(X.shape) * W + B
    words = hint(
        "nn.GroupNorm", X, truth, None, {"weight": W, "bias": B}, {"eps": 1e-5, "num_groups": 2}
    )
    assert "eps=1e-06" in words


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    x = RNG.normal(size=(4, 8)) * 4
    assert name in hint("nn.GELU", x, ACTIVATIONS[name](x), None, {}, {})


def test_transposed_weight():
    weight = RNG.normal(size=(8, 8))
    assert "transposed" in hint("nn.Linear", X, X @ weight, None, {"weight": weight}, {})


def test_missing_bias_and_wrong_scale():
    truth = RNG.normal(size=(4, 6, 8))
    assert "bias" in hint("nn.Conv2d", X, truth, truth + B, {}, {})
    assert "1.5 times" in hint("Attention", X, truth, truth * 1.5, {}, {})


def test_no_hypothesis_is_forced():
    truth = RNG.normal(size=(4, 6, 8))
    own = RNG.normal(size=(4, 6, 8))
    assert hint("nn.LayerNorm", X, truth, own, {"weight": W}, {"eps": 1e-5}) == ""


def module(path, verdict):
    return ModuleResult(path, "C", 0.0, 0.0, verdict)


def test_culprits_are_the_innermost_failures():
    rows = [
        module("a", "fail"), module("a.norm", "fail"), module("a.fc", "pass"),
        module("b", "fail"), module("b.fc", "warn"), module("ab", "pass"), module("c", "fail"),
    ]  # fmt: skip
    guilty, hinted = culprits(rows, {"a.norm", "a.fc", "b.fc", "ab", "c"})
    assert guilty == ["a.norm", "b", "c"]
    assert [m.hint for m in hinted if m.hint] == [WIRING]
