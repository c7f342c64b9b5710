import errno
import json

import click
import pytest

from porter.errors import Gap, InputError, MachineError, PorterError, UnsupportedError, UsageError

CONVERT = ("convert", "x", "-o", "out")
GAPS = (Gap("aten.foo.default", 3, "model.py:12", "MLX has no foo"),)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UsageError("no example input."), 2, "no example input."),
        (
            UnsupportedError("x needs:", GAPS),
            3,
            "aten.foo.default x3 at model.py:12 (MLX has no foo)",
        ),
        (InputError("x is cut short."), 4, "x is cut short."),
        (MachineError("no g++."), 5, "no g++."),
        (PorterError("other."), 5, "other."),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/model.safetensors"),
            5,
            "out/model.safetensors",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "x/config.json"),
            5,
            "x/config.json: Permission denied",
        ),
        (MemoryError(), 5, "out of memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (ModuleNotFoundError("No module named 'timm'", name="timm"), 5, "timm is not installed"),
        (ZeroDivisionError("division by zero"), 5, "run with --debug"),
    ],
)
def test_exit_code_and_sentence(stub, run, error, code, words):
    stub.error = error
    result = run(*CONVERT)
    assert result.exit_code == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_debug_shows_the_traceback(stub, run):
    stub.error = ZeroDivisionError("division by zero")
    result = run(*CONVERT, "--debug")
    assert result.exit_code == 5
    assert "Traceback (most recent call last)" in result.stderr


def test_an_error_is_in_the_json_too(stub, run):
    stub.error = UnsupportedError("x needs:", GAPS)
    result = run(*CONVERT, "--json", "-")
    assert result.exit_code == 3
    error = json.loads(result.stdout)["error"]
    assert error["exit_code"] == 3
    assert error["kind"] == "UnsupportedError"
    assert error["gaps"] == [
        {
            "name": "aten.foo.default",
            "count": 3,
            "location": "model.py:12",
            "reason": "MLX has no foo",
        }
    ]


@pytest.mark.parametrize(
    "words", [("convert", "x", "-o", "out", "--json"), ("batch", "x", "--junit")]
)
def test_a_folder_that_is_not_there_is_wrong_usage(stub, run, tmp_path, words):
    result = run(*words, str(tmp_path / "missing" / "r"))
    assert result.exit_code == 2
    assert "does not exist" in result.stderr
    assert stub.calls == []


def test_a_json_file_that_cannot_be_written_is_said(stub, run, tmp_path, monkeypatch):
    def full(target, result):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("porter.cli.exits.write_json", full)
    stub.error = InputError("bad.")
    result = run(*CONVERT, "--json", str(tmp_path / "r.json"))
    assert result.exit_code == 4
    assert "could not be written" in result.stderr
