import json
from pathlib import Path

import pytest

import porter.validate
from porter.report import OutputResult, Report


@pytest.fixture
def calls(monkeypatch):
    made = []

    def validate(directory, reference, source, **options):
        made.append((directory, reference, source, options))
        output = OutputResult("logits", (1, 10), "float32", 1e-6, 1e-5, 1e-6, 1.0, 0.3, "pass")
        return Report(directory.name, "timm:resnet18", {"backend": "torch-cpu"}, [output])

    def record(source, options, file, **more):
        made.append((source, options, file, more))
        return file

    monkeypatch.setattr(porter.validate, "validate", validate)
    monkeypatch.setattr(porter.validate, "record", record)
    return made


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("incomplete", 1)])
def test_verdict(calls, run, verdict, code):
    result = run("validate", verdict)
    assert result.exit_code == code
    assert result.stdout.startswith(f"{verdict}: {verdict}\n")
    directory, reference, source, options = calls[0]
    assert (directory, reference, source) == (Path(verdict), None, None)
    assert options["speed"]
    assert options["probes"]


def test_json_is_the_report(calls, run):
    words = "validate pass --reference r.zip --no-speed --no-probes --json -"
    answer = json.loads(run(*words.split()).stdout)
    assert Report.from_dict(answer).verdict == "pass"
    assert calls[0][1] == Path("r.zip")
    assert not calls[0][3]["speed"]
    assert not calls[0][3]["probes"]


def test_record(calls, run):
    words = "record timm:resnet18 -o r.zip --seed 4 --input x=x.npy --device cuda"
    result = run(*words.split())
    assert result.exit_code == 0
    assert result.stdout == "r.zip: recorded\n"
    source, options, file, more = calls[0]
    assert (source, file) == ("timm:resnet18", Path("r.zip"))
    assert (options.seed, options.inputs) == (4, ("x=x.npy",))
    assert more["device"] == "cuda"
