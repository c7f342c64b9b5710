"""DIR appears whole or not at all, and keeps its schema."""

import errno
import json
from pathlib import Path

import pytest

from porter import artifact
from porter.artifact import Facts, read_facts, stage, write_facts
from porter.errors import InputError, MachineError, UsageError
from tests.toy_output import FACTS, VALUE, fill


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


def test_pass_through_copies_but_does_not_replace(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("tokenizer.json", "config.json"):
        (source / name).write_text("theirs")
    (tmp_path / "config.json").write_text("ours")
    artifact.pass_through(tmp_path, sorted(source.iterdir()))
    assert (tmp_path / "tokenizer.json").read_text() == "theirs"
    assert (tmp_path / "config.json").read_text() == "ours"
