"""Quantizing a port in place: which layers, what is written, and that it is proven."""

from __future__ import annotations

import json

import mlx.core as mx
import pytest

from porter import loading
from porter.cli.options import QUANTIZATIONS
from porter.errors import UsageError
from porter.validate import validation
from porter.weights.functional_use import FunctionalUse
from porter.weights.quantization import MODES, quantization
from porter.weights.quantize import quantize_folder
from tests.porting import NETS, convert, refused


@pytest.fixture(autouse=True)
def untimed(monkeypatch):
    monkeypatch.setattr(validation, "SPEED_SECONDS", 0.0)


@pytest.mark.parametrize("words", [("--q-bits", 8), ("--q-mode", "mxfp4")])
def test_quantized_port_is_proven(tmp_path, words):
    out = tmp_path / "out"
    result = convert(f"{NETS}:vit", out, "-q", *words)
    assert result.exit_code == 0, result.output
    assert "9 of 9 Linear" in result.stderr
    config = json.loads((out / "config.json").read_text())
    assert config["quantization"] == config["quantization_config"]
    weights, metadata = mx.load(str(out / "model.safetensors"), return_metadata=True)
    assert metadata["format"] == "mlx"
    assert weights["blocks.0.fc1.weight"].dtype == mx.uint32
    assert "blocks.0.fc1.scales" in weights
    assert "patch.scales" not in weights
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == []


def test_a_layer_used_as_an_array_stays(tmp_path):
    result = convert(f"{NETS}:functional", tmp_path / "out", "-q")
    assert result.exit_code == 0, result.output
    assert "not quantized: fc, whose weight model.py uses as an array" in result.stderr
    model = loading.load(tmp_path / "out")
    assert type(model.fc).__name__ == "Linear"
    assert type(model.out).__name__ == "QuantizedLinear"


def test_nothing_to_quantize_is_2(tmp_path):
    refused(convert(f"{NETS}:shared", tmp_path / "out", "-q"), tmp_path / "out", 2, "8 inputs")


def test_predicate_of_the_model_and_own_settings(tmp_path):
    out = tmp_path / "out"
    assert convert(f"{NETS}:vit", out, "--no-proof").exit_code == 0
    file = out / "model.py"
    file.write_text(file.read_text() + PREDICATE)
    notes = quantize_folder(out, {"bits": 4, "group_size": 32})
    assert any("head" in note and "quant_predicate" in note for note in notes)
    entry = json.loads((out / "config.json").read_text())["quantization"]
    assert entry["blocks.0.fc1"] == {"group_size": 64, "bits": 8, "mode": "affine"}
    model = loading.load(out)
    assert (model.blocks[0].fc1.bits, model.blocks[0].fc2.bits) == (8, 4)
    with pytest.raises(UsageError, match="already"):
        quantize_folder(out, {"bits": 4})


PREDICATE = """

def quant_predicate(self, path, module):
    if path == "blocks.0.fc1":
        return {"bits": 8, "group_size": 64}
    return path != "head"


Model.quant_predicate = quant_predicate
"""


def test_defaults_of_each_mode():
    assert MODES == QUANTIZATIONS
    assert quantization({}).to_dict() == {"group_size": 64, "bits": 4, "mode": "affine"}
    assert quantization({"mode": "mxfp8"}).to_dict() == {
        "group_size": 32,
        "bits": 8,
        "mode": "mxfp8",
    }
    assert quantization({"mode": "nvfp4"}).group_size == 16
    for wrong in ({"bits": 7}, {"mode": "gguf"}, {"mode": "nvfp4", "group_size": 64}, {"bit": 4}):
        with pytest.raises(UsageError):
            quantization(wrong)


@pytest.mark.parametrize(
    ("body", "path", "reads"),
    [
        ("return x @ self.fc.weight.T", "fc", True),
        ("return x @ self.fc['weight'].T", "fc", True),
        ("return x @ getattr(self.fc, 'weight').T", "fc", True),
        ("return x @ self.fc.weight.T", "other", False),
        ("return x @ self.layers[1].fc.weight", "layers.1.fc", True),
        ("return x @ self.layers[1].fc.weight", "layers.0.fc", False),
        ("return x @ self.layers[n].fc.weight", "layers.0.fc", True),
        ("return x @ layer.weight", "fc", True),
        ("return self.fc(x) * args.weight", "fc", False),
        ("return x * self.weight", "fc", False),
    ],
)
def test_functional_use(body, path, reads):
    use = FunctionalUse.of(f"class Model:\n    def __call__(self, x):\n        {body}\n")
    assert use.reads({"": "Model"}, path) == reads
    assert use.reads({"": "Net", "inner": "Model"}, f"inner.{path}") == reads
