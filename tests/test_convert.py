"""Whole conversions: what DIR holds, that it is proven, and what every kind of failure leaves behind."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import mlx.core as mx
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from porter import artifact, loading
from porter.convert import convert as convert_module
from porter.validate import validation
from tests import tiny_nets
from tests.porting import NETS, convert, facts, refused

FILES = {
    "model.py",
    "config.json",
    "model.safetensors",
    "mapping.toml",
    "porter.json",
    "README.md",
    "report.json",
}
FACTS = [
    "schema",
    "porter",
    "mlx",
    "torch",
    "source",
    "sha256",
    "route",
    "inputs",
    "outputs",
    "proof",
]
REPORT = {
    "schema",
    "verdict",
    "source",
    "reference",
    "outputs",
    "modules",
    "culprits",
    "uncompared",
    "tokens",
    "gradients",
    "compile",
    "speed",
    "memory",
}


@pytest.fixture(autouse=True)
def untimed(monkeypatch):
    monkeypatch.setattr(validation, "SPEED_SECONDS", 0.0)


@pytest.fixture(scope="module")
def ported(tmp_path_factory):
    """The ConvNet's port; no test changes it."""
    out = tmp_path_factory.mktemp("ported") / "conv"
    result = convert(f"{NETS}:conv", out)
    assert result.exit_code == 0, result.output
    return out


def test_folder_holds_what_the_contract_says(ported):
    names = {path.name for path in ported.iterdir()}
    assert names - {"report.html"} == FILES
    content = facts(ported)
    assert list(content) == FACTS
    assert content["schema"] == 1
    assert content["porter"]
    assert len(content["sha256"]) == 64
    (given,) = content["inputs"]
    assert list(given) == ["name", "dtype", "shape", "permute"]
    assert (given["name"], given["dtype"], given["permute"]) == ("image", "float32", [0, 2, 3, 1])
    assert given["shape"][-1] == 3
    assert content["proof"]["verdict"] == "pass"
    config = json.loads((ported / "config.json").read_text())
    assert config["model_file"] == "model.py"
    assert config["model_type"]
    report = json.loads((ported / "report.json").read_text())
    assert set(report) >= REPORT
    assert report["verdict"] == "pass"
    assert {"path", "class", "max_abs", "margin", "verdict", "hint"} <= set(report["modules"][0])


def test_code_imports_only_mlx(ported):
    tree = ast.parse((ported / "model.py").read_text())
    names = {
        a.name.partition(".")[0]
        for n in ast.walk(tree)
        if isinstance(n, ast.Import)
        for a in n.names
    }
    names |= {
        str(n.module).partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)
    }
    assert names <= {"mlx", "dataclasses", "math", "functools"}


def test_loads_and_computes_the_same(ported):
    from porter.sources import resolve

    source = resolve(f"{NETS}:conv")
    with torch.no_grad():
        truth = source.materialize()(*source.args).numpy()
    image = mx.array(source.args[0].numpy().transpose(0, 2, 3, 1))
    for compiled in (False, True):
        own = np.array(loading.load(ported, compiled=compiled)(image))
        assert np.abs(own - truth).max() < 1e-5


@pytest.mark.parametrize("name", ["vit", "shared"])
def test_pass(tmp_path, name):
    result = convert(f"{NETS}:{name}", tmp_path / "out")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_passes(tmp_path, dtype):
    result = convert(f"{NETS}:vit", tmp_path / "out", "--dtype", dtype)
    assert result.exit_code == 0, result.output
    weights = mx.load(str(tmp_path / "out" / "model.safetensors"))
    assert {str(v.dtype) for v in weights.values()} == {f"mlx.core.{dtype}"}


def test_module_with_example_inputs(tmp_path):
    module, args = tiny_nets.shared()
    conversion = convert_module(module, tmp_path / "out", example_inputs=args)
    assert conversion.verdict == "pass"


class Chunked(torch.nn.Module):
    """Whole chunks of four tokens at once, what is left over by another layer."""

    def __init__(self):
        super().__init__()
        self.whole, self.rest = torch.nn.Linear(6, 6), torch.nn.Linear(6, 6)

    def forward(self, x):
        if x.shape[1] % 4 == 0:
            return self.whole(x)
        return self.rest(x)


def test_other_sizes_are_those_that_the_port_holds_for(tmp_path):
    conversion = convert_module(Chunked(), tmp_path / "out", example_inputs=(torch.randn(2, 8, 6),))
    assert conversion.verdict == "pass"
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert any("length=16" in output["name"] for output in report["outputs"]), report["outputs"]
    assert any("not compared at {'length': 6" in note for note in report["notes"])


def test_no_proof_is_unproven_and_0(tmp_path):
    result = convert(f"{NETS}:conv", tmp_path / "out", "--no-proof")
    assert result.exit_code == 0
    assert facts(tmp_path / "out")["proof"]["verdict"] == "unproven"
    assert not (tmp_path / "out" / "report.json").exists()


def test_failed_proof_is_kept_and_1(tmp_path, monkeypatch):
    write = artifact.write_config
    spoil = lambda folder, *rest: (_spoil(folder / "model.safetensors"), write(folder, *rest))  # noqa: E731
    monkeypatch.setattr(artifact, "write_config", spoil)
    result = convert(f"{NETS}:conv", tmp_path / "out")
    assert result.exit_code == 1, result.output
    assert facts(tmp_path / "out")["proof"]["verdict"] == "fail"


def _spoil(file):
    weights = dict(mx.load(str(file)))
    weights["fc.bias"] = weights["fc.bias"] + 1
    mx.eval(weights)
    file.unlink()
    mx.save_safetensors(str(file), weights, metadata={"format": "mlx"})


def test_unknown_ops_are_all_named_at_once(tmp_path):
    result = convert(f"{NETS}:unknown", tmp_path / "out", "--json", tmp_path / "error.json")
    refused(result, tmp_path / "out", 3, "mystery", "riddle", "tiny_nets.py:")
    error = json.loads((tmp_path / "error.json").read_text())["error"]
    assert sorted(gap["count"] for gap in error["gaps"]) == [1, 2]
    assert all("tiny_nets.py" in gap["location"] for gap in error["gaps"])


def test_wrong_usage_is_2(tmp_path):
    refused(convert(f"{NETS}", tmp_path / "out"), tmp_path / "out", 2, "FACTORY")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    result = convert(f"{NETS}:shared", tmp_path / "mine", "--overwrite")
    assert result.exit_code == 2
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_broken_checkpoints_are_4(tmp_path):
    state = tiny_nets.ConvNet().state_dict()
    whole = tmp_path / "whole.safetensors"
    save_file(state, whole)
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-100])
    save_file({k: v for k, v in state.items() if k != "fc.bias"}, tmp_path / "less.safetensors")
    torch.save({"weights": _Opaque()}, tmp_path / "code.pt")
    for name, parts in {"cut": ["damaged"], "less": ["fc.bias"]}.items():
        result = convert(
            f"{NETS}:conv", tmp_path / "out", "--checkpoint", tmp_path / f"{name}.safetensors"
        )
        refused(result, tmp_path / "out", 4, *parts)
    result = convert(f"{NETS}:conv", tmp_path / "out", "--checkpoint", tmp_path / "code.pt")
    refused(result, tmp_path / "out", 4, "--trust-pickle")


class _Opaque:
    """Of a class that no file of tensors needs."""


def _config(folder, **content):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def test_remote_code_is_not_run(tmp_path):
    folder = _config(tmp_path / "hf", model_type="mine", auto_map={"AutoModel": "evil.Net"})
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    save_file({"a": torch.ones(2)}, folder / "model.safetensors")
    refused(convert(folder, tmp_path / "out"), tmp_path / "out", 4, "--trust-remote-code")
    assert not (tmp_path / "ran").exists()


def test_shard_outside_of_the_folder(tmp_path):
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
    }
    folder = _config(tmp_path / "hf", model_type="bert", architectures=["BertModel"], **sizes)
    save_file({"a": torch.ones(2)}, tmp_path / "secret.safetensors")
    index = {"weight_map": {"a": "../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(convert(folder, tmp_path / "out"), tmp_path / "out", 4, "outside the folder")


def test_full_disk_is_5(tmp_path, monkeypatch):
    from porter.weights import writer

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_write_tensor", full)
    refused(convert(f"{NETS}:conv", tmp_path / "out"), tmp_path / "out", 5, "disk is full")


def test_as_a_command(tmp_path):
    """A process of its own, with --json on stdout."""
    words = [
        sys.executable,
        "-m",
        "porter",
        "convert",
        f"{NETS}:shared",
        "-o",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(
        [*words, "--no-proof", "--json", "-"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "unproven"
