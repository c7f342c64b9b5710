"""An output folder loads strictly, compiled or not, and quantized."""

import json
import sys

import mlx.core as mx
import mlx.nn as nn
import pytest

from porter.errors import InputError
from porter.loading import Compiled, load
from tests.toy_output import fill


def test_load(tmp_path):
    weights = fill(tmp_path)
    model = load(tmp_path)
    assert not model.training
    assert model.args.sizes == (3, 4)
    assert model.args.grid == ((1, 2), (3, 4))
    x = mx.ones((2, 64))
    wanted = x @ weights["layers.0.weight"].T + weights["layers.0.bias"] + 1
    assert mx.allclose(model(x), wanted, atol=1e-5).item()
    assert not (tmp_path / "__pycache__").exists()


def test_two_outputs_side_by_side(tmp_path):
    for name, width in (("a", 32), ("b", 64)):
        (tmp_path / name).mkdir()
        fill(tmp_path / name, width)
    a, b = load(tmp_path / "a"), load(tmp_path / "b")
    assert type(a) is not type(b)
    assert type(a).__module__ in sys.modules
    assert (a.args.width, b.args.width) == (32, 64)


def test_compiled(tmp_path):
    fill(tmp_path)
    model, compiled = load(tmp_path), load(tmp_path, compiled=True)
    assert isinstance(compiled, Compiled)
    x = mx.ones((2, 64))
    for inputs in (x, mx.ones((5, 64)), x):
        assert mx.allclose(compiled(inputs), model(inputs), atol=1e-5).item()
    assert compiled.args.width == 64
    assert compiled.layers is compiled.module.layers
    compiled.update({"layers": [{"weight": mx.zeros((64, 64)), "bias": mx.zeros(64)}]})
    assert mx.array_equal(compiled(x), mx.ones((2, 64))).item()
    with pytest.raises(AttributeError):
        _ = compiled.nothing


def test_compiled_returns_the_dataclass_of_the_module(tmp_path):
    fill(tmp_path)
    compiled = load(tmp_path, compiled=True)
    x = mx.ones((2, 64))
    for _ in range(2):
        output = compiled(x, wrap=True)
        assert type(output).__name__ == "Output"
        assert output.hidden is None
        assert mx.allclose(output.logits, compiled(x), atol=1e-5).item()


def test_quantized_weights(tmp_path):
    fill(tmp_path, quantized=True)
    model = load(tmp_path)
    assert isinstance(model.layers[0], nn.QuantizedLinear)
    assert model(mx.ones((1, 64))).shape == (1, 64)


@pytest.mark.parametrize(
    "change", ["extra", "lacking", "shape", "cut", "code", "args", "no code", "outside", "index"]
)
def test_damaged_outputs_are_refused(tmp_path, change):
    weights = fill(tmp_path)
    file = tmp_path / "model.safetensors"
    config = json.loads((tmp_path / "config.json").read_text())
    if change in ("extra", "lacking", "shape"):
        weights |= {"more": mx.ones(1)} if change == "extra" else {}
        weights["layers.0.bias"] = mx.ones(3)
        if change == "lacking":
            del weights["layers.0.bias"]
        mx.save_safetensors(str(file), weights)
    elif change == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif change == "code":
        (tmp_path / "model.py").write_text("raise RuntimeError('no')")
    elif change == "args":
        del config["width"]
        (tmp_path / "config.json").write_text(json.dumps(config))
    elif change == "no code":
        (tmp_path / "model.py").unlink()
    elif change == "outside":
        (tmp_path / "config.json").write_text(json.dumps(config | {"model_file": "../model.py"}))
    elif change == "index":
        mx.save_safetensors(str(tmp_path / "model-2.safetensors"), {"more": mx.ones(1)})
    with pytest.raises(InputError):
        load(tmp_path)
