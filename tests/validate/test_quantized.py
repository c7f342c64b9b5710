"""A quantized port is compared with the source that has its dequantized weights."""

from __future__ import annotations

import json

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from porter import loading
from porter.validate import deployed, validate


def save(port, weights):
    mx.save_safetensors(str(port / "model.safetensors"), weights, metadata={"format": "mlx"})


@pytest.fixture
def quantized(port):
    """Made by quantizing the loaded port."""
    model = loading.load(port)
    pick = lambda path, part: isinstance(part, nn.Linear) and path != "head"  # noqa: E731
    nn.quantize(model, group_size=32, bits=8, class_predicate=pick)
    save(port, dict(tree_flatten(model.parameters())))
    config = json.loads((port / "config.json").read_text())
    config["quantization"] = {"group_size": 32, "bits": 8}
    (port / "config.json").write_text(json.dumps(config))
    return port


def test_quantized_port_passes(quantized):
    assert deployed.weights_dtype(quantized) == ("float32", True)
    report = validate(quantized, speed=False)
    assert report.verdict == "pass", report.to_dict()


def test_damaged_scales_are_caught(quantized):
    weights = mx.load(str(quantized / "model.safetensors"))
    weights["blocks.0.fc1.bias"] = weights["blocks.0.fc1.bias"] + 0.1
    save(quantized, weights)
    report = validate(quantized, speed=False)
    assert report.culprits == ["blocks.0.fc1"]
