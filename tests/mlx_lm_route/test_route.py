"""Which decoders go to mlx-lm, and what becomes of them."""

import json

import mlx.core as mx
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from porter import artifact
from porter.convert import convert
from porter.errors import UnsupportedError
from porter.inspect import inspect
from porter.mlx_lm_route import choose_route
from porter.sources import resolve
from porter.validate import validate, validation
from tests.mlx_lm_route.folders import save


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory):
    return save(tmp_path_factory.mktemp("qwen2"), "qwen2")


@pytest.mark.parametrize("kind", ["qwen2", "llama", "phi3", "olmo2", "qwen3"])
def test_shipped_architectures_go_to_mlx_lm(kind, tmp_path):
    choice = choose_route(resolve(str(save(tmp_path, kind))), "auto")
    assert choice.handover.file.startswith("mlx_lm.models.")
    assert not choice.handover.dropped


def test_others_stay_with_their_reason(tmp_path):
    bare = tmp_path / "bare"
    config = transformers.LlamaConfig(
        **json.loads((save(tmp_path, "llama") / "config.json").read_text())
    )
    transformers.LlamaModel(config).save_pretrained(bare)
    assert choose_route(resolve(str(bare)), "auto").reason == ""
    with pytest.raises(UnsupportedError, match="head"):
        choose_route(resolve(str(bare)), "mlx-lm")
    unknown = save(tmp_path / "opt", "biogpt")
    choice = choose_route(resolve(str(unknown)), "auto")
    assert choice.handover is None
    assert "biogpt" in choice.reason


def test_a_tensor_that_the_file_has_no_place_for(qwen2, tmp_path):
    (tmp_path / "config.json").write_bytes((qwen2 / "config.json").read_bytes())
    tensors = {**load_file(qwen2 / "model.safetensors"), "model.extra.weight": torch.ones(3)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UnsupportedError, match=r"model\.extra\.weight"):
        choose_route(resolve(str(tmp_path)), "mlx-lm")


def test_inspect_names_the_route(qwen2):
    found = inspect(str(qwen2))
    assert found.route == "mlx-lm"
    assert "mlx_lm.models.qwen2" in found.notes[0]


def test_conversion_is_proven_and_loads_in_mlx_lm(qwen2, tmp_path):
    from mlx_lm.utils import load_model

    done = convert(str(qwen2), tmp_path / "out", route="mlx-lm", proof=False)
    report = validate(done.directory, speed=False)
    assert report.verdict == "pass"
    compared = {module.path for module in report.modules}
    assert {"model", "model.layers.0", "model.layers.0.self_attn", "lm_head"} <= compared
    assert artifact.read_facts(done.directory).route == "mlx-lm"
    assert not (done.directory / "model.py").exists()
    model, _ = load_model(done.directory)
    ids = np.arange(24).reshape(2, 12) % 60
    with torch.no_grad():
        reference = transformers.AutoModelForCausalLM.from_pretrained(qwen2)
        expected = reference(input_ids=torch.from_numpy(ids)).logits.numpy()
    assert np.abs(np.array(model(mx.array(ids))) - expected).max() < 1e-5


@pytest.mark.slow
def test_quantized(qwen2, tmp_path):
    how = {"bits": 8, "group_size": 32}
    done = convert(str(qwen2), tmp_path / "out", route="mlx-lm", quantize=how, proof=False)
    assert validate(done.directory, speed=False, probes=False).verdict == "pass"
    assert artifact.read_json(done.directory / "config.json")["quantization"]["bits"] == 8


@pytest.mark.slow
def test_a_file_that_computes_something_else_is_not_taken(tmp_path, monkeypatch):
    """mlx-lm's starcoder2 has the exact GELU, transformers' the tanh one."""
    monkeypatch.setattr(validation, "SPEED_SECONDS", 0.1)
    folder = save(tmp_path, "starcoder2", hidden_act="gelu_pytorch_tanh")
    done = convert(str(folder), tmp_path / "out")
    assert artifact.read_facts(done.directory).route == "graph"
    assert done.verdict == "pass"
    assert "mlx_lm.models.starcoder2 is not this model" in done.notes[0]
    assert ".mlp" in done.notes[0]
