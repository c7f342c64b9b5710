"""Another checkpoint by an earlier port's mapping: the same code, other weights, nothing traced."""

from __future__ import annotations

import shutil

import mlx.core as mx
import pytest
import torch
from safetensors.torch import save_file

from porter.validate import validation
from tests.porting import NETS, convert, facts, refused
from tests.tiny_nets import Vit


@pytest.fixture(autouse=True)
def untimed(monkeypatch):
    monkeypatch.setattr(validation, "SPEED_SECONDS", 0.0)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The Vit's port, unproven; no test changes it."""
    out = tmp_path_factory.mktemp("earlier") / "vit"
    assert convert(f"{NETS}:vit", out, "--no-proof").exit_code == 0
    return out


@pytest.fixture
def state():
    """The weights of a Vit that was trained further."""
    torch.manual_seed(7)
    return {key: value.contiguous() for key, value in Vit().state_dict().items()}


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_other_weights_in_the_same_code(tmp_path, earlier, state, suffix, monkeypatch):
    monkeypatch.setattr("porter.convert.compile_port", None)
    new, out = tmp_path / f"new.{suffix}", tmp_path / "out"
    (save_file if suffix == "safetensors" else torch.save)(state, new)
    result = convert(new, out, "--mapping", earlier / "mapping.toml")
    assert result.exit_code == 0, result.output
    assert (out / "model.py").read_bytes() == (earlier / "model.py").read_bytes()
    own, old = (mx.load(str(f / "model.safetensors")) for f in (out, earlier))
    assert own.keys() == old.keys()
    assert mx.array_equal(own["head.bias"], mx.array(state["head.bias"].numpy()))
    assert mx.array_equal(own["steps"], old["steps"])
    content = facts(out)
    assert content["source"] == f"{NETS}:vit"
    assert content["proof"]["options"]["checkpoint"] == str(new)
    assert content["sha256"] != facts(earlier)["sha256"]


def test_quantized_too(tmp_path, earlier, state):
    save_file(state, tmp_path / "new.safetensors")
    first, second = tmp_path / "first", tmp_path / "second"
    words = ("--no-proof", "--mapping")
    assert convert(tmp_path / "new.safetensors", first, "-q", *words, earlier).exit_code == 0
    result = convert(tmp_path / "new.safetensors", second, *words, first / "mapping.toml")
    assert result.exit_code == 0, result.output
    assert "is quantized, and this port is not" in result.stderr
    assert mx.load(str(second / "model.safetensors"))["head.weight"].shape == (10, 64)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda state: state.pop("head.bias"), "head.bias"),
        (lambda state: state.update(extra=torch.ones(2)), "extra"),
        (lambda state: state.update(Vit(dim=32).state_dict()), "another size"),
    ],
)
def test_what_does_not_fit_is_4(tmp_path, earlier, state, change, part):
    change(state)
    save_file(state, tmp_path / "new.safetensors")
    result = convert(
        tmp_path / "new.safetensors", tmp_path / "out", "--mapping", earlier / "mapping.toml"
    )
    refused(result, tmp_path / "out", 4, part, "without --mapping")


def test_a_mapping_without_its_port_is_4(tmp_path, earlier, state):
    save_file(state, tmp_path / "new.safetensors")
    shutil.copy(earlier / "mapping.toml", tmp_path / "mine.toml")
    result = convert(
        tmp_path / "new.safetensors", tmp_path / "out", "--mapping", tmp_path / "mine.toml"
    )
    refused(result, tmp_path / "out", 4, "porter.json", "not a copy")


def _bert(folder, seed, **changes):
    import transformers

    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        **{"vocab_size": 50, "max_position_embeddings": 40, **sizes, **changes}
    )
    transformers.BertModel(config).eval().save_pretrained(folder)
    return folder


def test_huggingface_folder_is_its_own_reference(tmp_path):
    old, new = _bert(tmp_path / "old", 0), _bert(tmp_path / "new", 1)
    assert convert(old, tmp_path / "first", "--no-proof").exit_code == 0
    mapping = tmp_path / "first" / "mapping.toml"
    result = convert(new, tmp_path / "second", "--mapping", mapping)
    assert result.exit_code == 0, result.output
    assert facts(tmp_path / "second")["source"] == str(new)
    result = convert(new / "model.safetensors", tmp_path / "third", "--mapping", mapping)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{tmp_path / 'third'}: unproven")
    assert "not proven" in result.stderr


def test_another_size_of_the_model(tmp_path):
    old = _bert(tmp_path / "old", 0, num_hidden_layers=2)
    assert convert(old, tmp_path / "first", "--no-proof").exit_code == 0
    mapping = tmp_path / "first" / "mapping.toml"
    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    new = _bert(tmp_path / "new", 1, **sizes, intermediate_size=80, layer_norm_eps=1e-5)
    result = convert(new, tmp_path / "second", "--mapping", mapping)
    assert result.exit_code == 0, result.output
    assert "another size of the model" in result.stderr
    second = facts(tmp_path / "second")
    assert [entry["shape"][-1] for entry in second["outputs"]] == [48, 48]
    assert (tmp_path / "second" / "model.py").read_bytes() == (
        tmp_path / "first" / "model.py"
    ).read_bytes()


def test_what_a_setting_does_not_tell_is_found_by_the_proof(tmp_path):
    old = _bert(tmp_path / "old", 0, num_hidden_layers=2)
    assert convert(old, tmp_path / "first", "--no-proof").exit_code == 0
    mapping = tmp_path / "first" / "mapping.toml"
    new = _bert(tmp_path / "new", 1, num_hidden_layers=3, hidden_act="relu")
    result = convert(new, tmp_path / "second", "--mapping", mapping)
    assert result.exit_code == 1
    assert "fail" in result.stdout
