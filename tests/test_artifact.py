"""DIR appears whole or not at all, keeps its schema, and loads strictly."""

import errno
import json
import sys
from pathlib import Path
from textwrap import dedent

import mlx.core as mx
import mlx.nn as nn
import pytest

from porter import artifact
from porter.artifact import Compiled, Facts, load, read_facts, stage, write_config, write_facts
from porter.errors import InputError, MachineError, UsageError

MODEL = """
    from __future__ import annotations

    from dataclasses import dataclass

    import mlx.core as mx
    import mlx.nn as nn


    @dataclass
    class ModelArgs:
        width: int
        sizes: tuple[int, ...] = (1, 2)
        grid: tuple[tuple[int, int], ...] = ((0, 0),)
        names: list | None = None


    @dataclass
    class Output:
        logits: mx.array
        hidden: mx.array | None = None


    class Model(nn.Module):
        def __init__(self, args: ModelArgs):
            super().__init__()
            self.args = args
            self.layers = [nn.Linear(args.width, args.width)]
            self.drop = nn.Dropout(0.5)
            self._offset = mx.ones(args.width)

        def __call__(self, x, wrap=False):
            x = self.drop(self.layers[0](x) + self._offset)
            return Output(x) if wrap else x
"""
VALUE = {"name": "x", "dtype": "float32", "shape": ["batch", 64], "permute": None}
FACTS = Facts(
    "timm:x", "abc", "graph", (VALUE,), ({**VALUE, "permute": [1, 0]},), {"verdict": "pass"}
)


def fill(folder: Path, width: int = 64, quantized: bool = False, **config) -> dict:
    """A complete output in `folder`; its weights."""
    (folder / "model.py").write_text(dedent(MODEL))
    linear = nn.Linear(width, width)
    weights = {"layers.0.weight": linear.weight, "layers.0.bias": linear.bias}
    fields = {"width": width, "sizes": (3, 4), "grid": [[1, 2], [3, 4]], **config}
    if quantized:
        q, scales, biases = mx.quantize(linear.weight, 32, 8)
        weights |= {"layers.0.weight": q, "layers.0.scales": scales, "layers.0.biases": biases}
        fields["quantization"] = {"group_size": 32, "bits": 8, "mode": "affine"}
    write_config(folder, fields, "toy", {"architectures": ["Toy"], "width": 1, "model_type": "old"})
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    write_facts(folder, FACTS)
    return weights


def test_stage_appears_whole(tmp_path):
    final = tmp_path / "deep" / "out"
    with stage(final) as folder:
        assert folder.parent == final.parent
        (folder / "a").mkdir()
        (folder / "a" / "b").write_text("x")
        assert not final.exists()
    assert (final / "a" / "b").read_text() == "x"
    assert [path.name for path in final.parent.iterdir()] == ["out"]
    (tmp_path / "plain").mkdir()
    assert final.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, InputError])
def test_stage_leaves_nothing_on_failure(tmp_path, error):
    def fail():
        with stage(tmp_path / "out") as folder:
            (folder / "a").write_text("x")
            raise error("no")

    with pytest.raises(error):
        fail()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "quota"), (errno.EIO, "output error")],
)
def test_stage_names_a_failing_disk(tmp_path, number, words):
    def fail():
        with stage(tmp_path / "out"):
            raise OSError(number, "Input/output error")

    with pytest.raises(MachineError, match=words):
        fail()
    assert not list(tmp_path.iterdir())


def test_stage_refuses_what_exists(tmp_path):
    with stage(tmp_path / "out") as folder:
        fill(folder)
    with pytest.raises(UsageError, match="--overwrite"), stage(tmp_path / "out"):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"), stage(tmp_path / "file", overwrite=True):
        pass
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="did not write"), stage(tmp_path / "mine", overwrite=True):
        pass
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_overwrite_keeps_the_old_until_the_new_is_complete(tmp_path):
    final = tmp_path / "out"
    with stage(final) as folder:
        fill(folder)
    with stage(final, overwrite=True) as folder:
        assert (final / "porter.json").exists()
        (folder / "new").write_text("x")
    assert [path.name for path in final.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_overwrite_that_fails_keeps_the_old(tmp_path, monkeypatch):
    final = tmp_path / "out"
    with stage(final) as folder:
        fill(folder)
    rename = Path.rename

    def failing(self, target):
        if self.name.endswith(".part"):
            raise OSError(errno.ENOSPC, "No space")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(MachineError, match="disk is full"), stage(final, overwrite=True) as folder:
        (folder / "new").write_text("x")
    assert (final / "porter.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_overwrite_of_an_empty_folder_and_through_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with stage(tmp_path / "link", overwrite=True) as folder:
        (folder / "new").write_text("x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "new").exists()


def test_facts_have_the_schema_of_the_contract(tmp_path):
    write_facts(tmp_path, FACTS)
    content = json.loads((tmp_path / "porter.json").read_text())
    assert list(content) == [
        "schema", "porter", "mlx", "torch", "source", "sha256", "route", "inputs", "outputs", "proof",
    ]  # fmt: skip
    assert content["schema"] == 1
    assert content["inputs"] == [VALUE]
    assert content["mlx"].split(".")[0].isdigit()
    facts = read_facts(tmp_path)
    assert (facts.inputs, facts.outputs, facts.proof) == (FACTS.inputs, FACTS.outputs, FACTS.proof)


@pytest.mark.parametrize(
    "value",
    [
        {"name": "x"},
        {**VALUE, "permute": [0]},
        {**VALUE, "permute": [0, 0]},
        {**VALUE, "permute": [1, 2]},
    ],
)
def test_facts_are_checked(tmp_path, value):
    with pytest.raises(UsageError):
        write_facts(tmp_path, Facts("s", "h", "graph", (value,), ()))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 2}', "[" * 100_000])
def test_what_is_not_an_output(tmp_path, content):
    (tmp_path / "porter.json").write_text(content)
    with pytest.raises(InputError):
        read_facts(tmp_path)


def test_config(tmp_path):
    fill(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "toy"
    assert config["model_file"] == "model.py"
    assert config["width"] == 64
    assert config["architectures"] == ["Toy"]


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


def test_pass_through_copies_but_does_not_replace(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("tokenizer.json", "config.json"):
        (source / name).write_text("theirs")
    (tmp_path / "config.json").write_text("ours")
    artifact.pass_through(tmp_path, sorted(source.iterdir()))
    assert (tmp_path / "tokenizer.json").read_text() == "theirs"
    assert (tmp_path / "config.json").read_text() == "ours"
