"""A recording carries everything: no torch, no source, and damage is noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from porter.errors import InputError
from porter.validate import validate

ROOT = Path(__file__).parents[2]


def test_validates_where_torch_is_missing(port, recording, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "torch.py").write_text("raise ModuleNotFoundError('no torch', name='torch')\n")
    facts = json.loads((port / "porter.json").read_text())
    facts["source"] = "/gone/model.py:net"
    (port / "porter.json").write_text(json.dumps(facts))
    code = (
        "import sys; from porter.validate import validate;"
        "print(validate(sys.argv[1], reference=sys.argv[2], speed=False).verdict)"
    )
    path = os.pathsep.join([str(blocked), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code, str(port), str(recording)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.stdout.strip() == "pass", done.stderr


def test_recording_states_the_machine(recording):
    with zipfile.ZipFile(recording) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert {"torch", "device", "tf32", "cudnn_benchmark", "threads"} <= set(manifest["reference"])
    assert {e["path"] for e in manifest["entries"]} >= {"conv", "blocks.0", "blocks.1.act"}
    assert not manifest["problems"]


def rewritten(recording, target, change):
    with zipfile.ZipFile(recording) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            found = change(name, old.read(name))
            if found is not None:
                new.writestr(*found)
    return target


@pytest.mark.parametrize(
    "change",
    [
        lambda name, data: None if name == "manifest.json" else (name, data),
        lambda name, data: ("../" + name, data),
        lambda name, data: (name, data.replace(b'"schema": 1', b'"schema": 9')),
        lambda name, data: (name, b"{}" if name == "manifest.json" else data),
        lambda name, data: (name, data[:50] if name.startswith("e") else data),
    ],
    ids=["no manifest", "path outside", "schema", "empty manifest", "cut arrays"],
)
def test_damaged_recording_is_bad_input(port, recording, tmp_path, change):
    bad = rewritten(recording, tmp_path / "bad.zip", change)
    with pytest.raises(InputError):
        validate(port, reference=bad, speed=False)
    assert not (tmp_path / "manifest.json").exists()


def test_file_that_is_no_recording_is_bad_input(port, tmp_path):
    (tmp_path / "x.zip").write_bytes(b"nothing")
    with pytest.raises(InputError):
        validate(port, reference=tmp_path / "x.zip", speed=False)


def test_module_across_other_borders_uses_the_recorded_values(port, plant, recording):
    """One entry for norm and fc1 together, as a port that fuses them has it."""

    def merge(facts):
        entries = facts["proof"]["modules"]
        norm = next(e for e in entries if e["path"] == "blocks.0.norm")
        fc1 = next(e for e in entries if e["path"] == "blocks.0.fc1")
        entries.remove(norm)
        fc1["path"], fc1["inputs"] = "blocks.0.front", norm["inputs"]

    plant.facts(merge)
    report = validate(port, reference=recording, speed=False)
    found = next(m for m in report.modules if m.path == "blocks.0.front")
    assert (
        "no module blocks.0.front" in found.hint
    )  # the data was there, this port has no such part
    assert not any("front" in what for what in report.uncompared)
