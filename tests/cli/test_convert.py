import json
from pathlib import Path

import pytest

CONVERT = ("convert", "timm:resnet18", "-o", "out")


def test_result_is_on_stdout_and_progress_and_notes_on_stderr(stub, run):
    result = run(*CONVERT)
    assert result.exit_code == 0
    assert result.stdout.startswith("out: pass\nProven: 1 outputs")
    assert "1.000000000" in result.stdout
    assert "weights 1/2" in result.stderr
    assert "note: height stayed fixed" in result.stderr
    assert "weights" not in result.stdout


def test_defaults_are_those_of_the_python_function(stub, run):
    run(*CONVERT)
    (arguments, options) = stub.calls[0]
    progress = options.pop("progress")
    assert callable(progress)
    assert arguments == ("timm:resnet18", Path("out"))
    assert options == {
        "dtype": None,
        "quantize": None,
        "input_layout": "nhwc",
        "mapping": None,
        "plugins": (),
        "fold_batchnorm": False,
        "route": "auto",
        "inputs": (),
        "checkpoint": None,
        "trust_pickle": False,
        "trust_remote_code": False,
        "overwrite": False,
        "proof": True,
        "seed": 0,
    }


def test_options_reach_the_python_function(stub, run):
    words = "--dtype bfloat16 --input-layout nchw --mapping m.toml --route graph --checkpoint c.pt --trust-pickle"
    words += " --trust-remote-code --overwrite --no-proof --seed 3 --input x=float32[2,3] --input y=y.npy"
    run(*CONVERT, *words.split())
    options = stub.calls[0][1]
    assert options["dtype"] == "bfloat16"
    assert options["input_layout"] == "nchw"
    assert options["mapping"] == "m.toml"
    assert options["route"] == "graph"
    assert options["checkpoint"] == "c.pt"
    assert options["trust_pickle"]
    assert options["trust_remote_code"]
    assert options["overwrite"]
    assert not options["proof"]
    assert options["seed"] == 3
    assert options["inputs"] == ("x=float32[2,3]", "y=y.npy")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-q", {"bits": 4, "group_size": 64, "mode": "affine"}),
        ("-q --q-bits 8 --q-group-size 32", {"bits": 8, "group_size": 32, "mode": "affine"}),
        ("-q --q-mode mxfp4", {"bits": 4, "group_size": 32, "mode": "mxfp4"}),
        ("-q --q-mode mxfp8", {"bits": 8, "group_size": 32, "mode": "mxfp8"}),
        ("-q --q-mode nvfp4", {"bits": 4, "group_size": 16, "mode": "nvfp4"}),
    ],
)
def test_quantization(stub, run, words, expected):
    run(*CONVERT, *words.split())
    assert stub.calls[0][1]["quantize"] == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--q-bits 4", "add -q"),
        ("--q-mode mxfp4", "add -q"),
        ("-q --q-bits 7", "choose from 2, 3, 4, 5, 6, 8"),
        ("-q --q-mode nvfp4 --q-group-size 64", "choose from 16"),
        ("--dtype float64", "float64"),
        ("--route onnx", "onnx"),
        ("--nonsense", "--nonsense"),
    ],
)
def test_wrong_usage_is_2_and_nothing_runs(stub, run, words, message):
    result = run(*CONVERT, *words.split())
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    assert stub.calls == []


def test_a_folder_to_write_is_required(stub, run):
    assert run("convert", "timm:resnet18").exit_code == 2


@pytest.mark.parametrize(
    ("verdict", "words", "code"),
    [
        ("pass", (), 0),
        ("fail", (), 1),
        ("incomplete", (), 1),
        ("unproven", (), 1),
        ("unproven", ("--no-proof",), 0),
        ("fail", ("--no-proof",), 1),
    ],
)
def test_exit_code_of_a_verdict(stub, run, verdict, words, code):
    stub.verdict = verdict
    result = run(*CONVERT, *words)
    assert result.exit_code == code
    assert result.stdout.startswith(f"out: {verdict}")


def test_json_on_stdout_is_one_object_and_nothing_else(stub, run):
    result = run(*CONVERT, "--json", "-")
    answer = json.loads(result.stdout)
    assert answer["schema"] == 1
    assert answer["verdict"] == "pass"
    assert answer["directory"] == "out"
    assert answer["report"]["outputs"][0]["name"] == "logits"


def test_json_in_a_file_leaves_the_text_on_stdout(stub, run, tmp_path):
    result = run(*CONVERT, "--json", str(tmp_path / "r.json"))
    assert result.stdout.startswith("out: pass")
    assert json.loads((tmp_path / "r.json").read_text())["verdict"] == "pass"
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_dump_passes_goes_to_stderr(stub, run):
    run(*CONVERT, "--dump-passes")
    assert callable(stub.calls[0][1]["dump_passes"])
