"""Whole validations of a small port, with and without its source."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from porter.errors import InputError, UsageError
from porter.validate import validate


def quick(port, recording):
    return validate(port, reference=recording, speed=False)


def result(report, path):
    return next(m for m in report.modules if m.path == path)


def test_correct_port_passes_against_its_source(port):
    report = validate(port)
    assert report.verdict == "pass", report.to_dict()
    assert report.exit_code == 0
    assert {o.name for o in report.outputs} == {"head", "head (batch=3)"}
    assert len(report.modules) == 13
    assert report.compile == {"equal": True, "retraces": 0}
    assert {(r["side"], r["mode"]) for r in report.speed["runs"]} >= {
        ("reference", "eager"), ("candidate", "eager"), ("candidate", "compiled"),
    }  # fmt: skip
    assert json.loads((port / "report.json").read_text())["verdict"] == "pass"
    assert json.loads((port / "porter.json").read_text())["proof"]["verdict"] == "pass"
    assert (port / "report.html").read_text().startswith("<!doctype html>")


def test_correct_port_passes_against_a_moved_recording(port, recording, tmp_path):
    moved = tmp_path / "elsewhere" / "r.zip"
    moved.parent.mkdir()
    shutil.copy(recording, moved)
    report = quick(port, moved)
    assert report.verdict == "pass", report.to_dict()
    assert max(m.margin for m in report.modules) <= 1


def test_source_at_hand_runs_in_this_process(port):
    from porter.sources import SourceOptions, resolve

    spec = json.loads((port / "porter.json").read_text())["source"]
    report = validate(port, source=resolve(spec, SourceOptions()), speed=False, write=False)
    assert report.verdict == "pass", report.to_dict()


@pytest.mark.parametrize(
    ("old", "new", "guilty", "hint"),
    [
        ("eps=1e-6", "eps=1e-5", "norm", "eps=1e-06; it has 1e-05"),
        ("eps=1e-6", "eps=1e-12", "norm", "eps=1e-06; it has 1e-12"),
        ("nn.GELU()", "nn.GELU(approx='tanh')", "act", "GELU (erf)"),
        ("return x + self", "return self", "", "wiring, residual or mask"),
    ],
)
def test_wrong_code_is_caught_and_located(port, plant, recording, old, new, guilty, hint):
    plant.code(old, new)
    report = quick(port, recording)
    suffix = f".{guilty}" if guilty else ""
    assert report.verdict == "fail"
    assert report.culprits == [f"blocks.0{suffix}", f"blocks.1{suffix}"], report.to_dict()
    assert hint in result(report, report.culprits[0]).hint


@pytest.mark.parametrize(
    ("name", "change", "guilty", "hint"),
    [
        ("blocks.1.fc1.bias", np.zeros_like, "blocks.1.fc1", "missing or wrong bias"),
        ("blocks.0.fc2.weight", np.transpose, "blocks.0.fc2", "weight transposed"),
        ("blocks.0.norm.weight", lambda w: w + 1, "blocks.0.norm", "1 taken from its weight"),
        ("conv.bias", np.zeros_like, "conv", "missing or wrong bias"),
        ("conv.weight", lambda w: w.transpose(0, 2, 1, 3), "conv", ""),
        ("head.weight", lambda w: w * 1.01, "head", ""),
    ],
)
def test_wrong_weights_are_caught_and_located(port, plant, recording, name, change, guilty, hint):
    plant.weight(name, change)
    report = quick(port, recording)
    assert report.verdict == "fail"
    assert report.culprits == [guilty]
    assert hint in result(report, guilty).hint


def test_wrong_wiring_at_the_top_fails_the_outputs_alone(port, plant, recording):
    plant.code("for block in self.blocks:", "for block in self.blocks[::-1]:")
    report = quick(port, recording)
    assert report.verdict == "fail"
    assert report.outputs[0].verdict == "fail"
    assert report.culprits == ["(model)"]
    assert "wiring" in report.outputs[0].hint


def test_module_that_raises_is_a_failure_with_its_message(port, plant, recording):
    plant.code("return x + self", "raise ValueError('no') if x is None else TypeError('oops')#")
    report = quick(port, recording)
    assert report.verdict == "fail"
    assert "oops" in result(report, "blocks.0").hint


def test_training_mode_and_changing_state_are_failures(port, plant, recording):
    plant.code("x = self.bn(self.conv(image))", "self.bn.train(); x = self.bn(self.conv(image))")
    report = quick(port, recording)
    assert report.verdict == "fail"
    assert report.checks["state"].startswith("fail")


def test_row_that_depends_on_its_batch_is_caught(port, plant, recording):
    plant.code("mx.mean(x, axis=1)", "mx.mean(x, axis=1) - 0.1 * mx.mean(x, axis=(0, 1))")
    assert quick(port, recording).checks["row alone"].startswith("fail")


def test_stale_python_state_is_caught_by_compiling(port, plant, recording):
    plant.code(
        "x = self.bn(self.conv(image))",
        "self.calls = getattr(self, 'calls', 0) + 1\n"
        "        x = self.bn(self.conv(image)) * self.calls",
    )
    report = quick(port, recording)
    assert not report.compile["equal"]
    assert report.checks["again"].startswith("fail")


def test_module_without_counterpart_is_incomplete(port, plant, recording):
    plant.facts(lambda f: f["proof"].update(modules=[
        m for m in f["proof"]["modules"] if m["path"] != "head"
    ]))  # fmt: skip
    report = quick(port, recording)
    assert report.verdict == "incomplete"
    assert report.exit_code == 1
    assert report.uncompared == ["module head (Linear) has no counterpart"]


def test_value_that_no_one_has_is_incomplete(port, plant, recording):
    plant.facts(lambda f: f["proof"]["modules"][0]["outputs"][0].update(value="nowhere"))
    report = quick(port, recording)
    assert report.verdict == "incomplete"
    assert "nowhere" in report.uncompared[0]


def test_unread_tensor_is_incomplete(port, recording):
    file = port / "mapping.toml"
    kept = [line for line in file.read_text().splitlines() if "head.bias" not in line]
    file.write_text("\n".join(kept))
    report = quick(port, recording)
    assert report.verdict == "incomplete"
    assert report.uncompared == ["tensor head.bias is used by the source and by no recipe"]


def test_output_without_counterpart_is_incomplete(port, plant, recording):
    extra = {"name": "aux", "dtype": "float32", "shape": [1], "permute": None}
    plant.facts(lambda f: f["outputs"].append(extra))
    assert quick(port, recording).verdict == "incomplete"


def test_nan_on_both_sides_is_equal_and_flagged(port):
    spec = json.loads((port / "porter.json").read_text())["source"]
    report = validate(port, source=spec + "_with_nan", speed=False)
    assert report.verdict == "pass", report.to_dict()
    assert "NaN on both sides" in report.outputs[0].hint


def test_nan_on_one_side_fails(port, plant, recording):
    plant.weight("head.bias", lambda b: b * np.float32("nan"))
    report = quick(port, recording)
    assert report.verdict == "fail"
    assert "NaN on one side" in report.outputs[0].hint


def test_half_precision_port_is_judged_at_its_own_rounding(port, plant):
    from safetensors.numpy import load_file, save_file

    weights = load_file(port / "model.safetensors")
    save_file({k: v.astype(np.float16) for k, v in weights.items()}, port / "model.safetensors")
    report = validate(port, speed=False)
    assert report.verdict == "pass", report.to_dict()
    assert not report.uncompared  # the graph ran on the same rounded inputs as the eager model
    assert any("deployed" in o.name and o.dtype == "float16" for o in report.outputs)


def test_promotion_to_float32_is_listed(port, plant):
    from safetensors.numpy import load_file, save_file

    weights = load_file(port / "model.safetensors")
    save_file({k: v.astype(np.float16) for k, v in weights.items()}, port / "model.safetensors")
    plant.code("return x + self", "return x.astype(mx.float32) + self")
    report = validate(port, speed=False)
    assert result(report, "blocks.0").verdict == "warn"
    assert "float32" in result(report, "blocks.0").hint


def test_hostile_names_do_no_harm(port, plant, recording):
    def spoil(facts):
        facts["outputs"][0]["name"] = "<script>alert(1)</script>[red]|`../../x"
        facts["proof"]["modules"][0]["path"] = "../../etc/passwd"
        facts["proof"]["modules"][1]["path"] = "__class__.__init__"

    plant.facts(spoil)
    report = quick(port, recording)
    assert report.verdict == "fail"
    assert "no module ../../etc/passwd" in result(report, "../../etc/passwd").hint
    assert "<script>" not in (port / "report.html").read_text()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"inputs": 1, "outputs": []}', "{"])
def test_damaged_porter_json_is_bad_input(port, content):
    (port / "porter.json").write_text(content)
    with pytest.raises(InputError):
        validate(port)


def test_missing_directory_is_bad_input(tmp_path):
    with pytest.raises(InputError):
        validate(tmp_path / "nothing")


def test_source_that_does_not_exist_is_its_own_error(port):
    with pytest.raises(InputError):
        validate(port, source="/nowhere/at_all.py:net")


def test_recording_and_source_together_are_wrong_usage(port, recording):
    with pytest.raises(UsageError):
        validate(port, reference=recording, source="x")


def test_overflow_headroom_is_noted(port):
    from safetensors.numpy import load_file, save_file

    weights = load_file(port / "model.safetensors")
    save_file({k: v.astype(np.float16) for k, v in weights.items()}, port / "model.safetensors")
    spec = json.loads((port / "porter.json").read_text())["source"]
    report = validate(port, source=spec + "_with_large_values", speed=False, write=False)
    assert any(note.startswith("conv reaches") for note in report.notes), report.notes
