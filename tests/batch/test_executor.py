"""Jobs run a stand-in for porter: a package of that name whose behaviour the source's name chooses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import porter
from porter.batch import junit_xml, read_manifest, run_batch
from porter.batch.cache import Cache, job_key, source_identity

STAND_IN = """
import json, os, pathlib, signal, sys, time
command, source, *words = sys.argv[1:]
answer = pathlib.Path(words[words.index("--json") + 1])
with open(os.environ["CALLS"], "a") as log:
    print(" ".join([command, *words[:-2]]), file=log)
if "crash" in source:
    os.kill(os.getpid(), signal.SIGKILL)
if "hang" in source:
    time.sleep(60)
if "gap" in source:
    answer.write_text(json.dumps({"error": {"message": "aten.foo is missing."}}))
    sys.exit(3)
if command == "convert":
    out = pathlib.Path(words[words.index("-o") + 1])
    if out.exists() and "--overwrite" not in words:
        sys.exit(2)
    out.mkdir(parents=True, exist_ok=True)
    (out / "porter.json").write_text("{}")
verdict = "fail" if "wrong" in source else "pass"
report = {"schema": 1, "verdict": verdict, "source": source, "reference": {}, "outputs": [], "modules": [],
          "culprits": [], "uncompared": [], "tokens": None, "gradients": None, "compile": None, "speed": None,
          "memory": {}}
answer.write_text(json.dumps({"verdict": verdict, "report": report}))
print("the last words", file=sys.stderr)
sys.exit(verdict == "fail")
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    package = tmp_path / "stand_in" / "porter"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(STAND_IN)
    log = tmp_path / "calls"
    log.touch()
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setenv("CALLS", str(log))
    monkeypatch.chdir(tmp_path)  # `python -m` looks in the current folder before PYTHONPATH
    return lambda: log.read_text().splitlines()


def manifest(tmp_path: Path, *sources: str, extra: str = ""):
    path = tmp_path / "jobs.toml"
    jobs = [
        f'[[job]]\nname = "{source}"\nsource = "{source}"\nout = "{source}-out"\n'
        for source in sources
    ]
    path.write_text("".join(jobs) + extra)
    return read_manifest(path)


def test_one_bad_job_does_not_end_the_others(tmp_path, calls):
    jobs = manifest(tmp_path, "crash", "good", "gap", "wrong")
    results = run_batch(jobs, workers=2)
    assert [result.state for result in results] == ["crashed", "passed", "failed", "failed"]
    assert [result.ok for result in results] == [False, True, False, False]
    assert "SIGKILL" in results[0].message
    assert results[2].message == "aten.foo is missing."
    assert results[2].exit_code == 3
    assert results[3].to_dict()["verdict"] == "fail"
    assert results[3].message == "the last words"


def test_time_limit(tmp_path, calls):
    started = time.monotonic()
    (result,) = run_batch(manifest(tmp_path, "hang"), timeout=1.0)
    assert result.state == "timeout"
    assert "raise its timeout" in result.message
    assert time.monotonic() - started < 20


def test_a_validation_waits_for_its_conversion(tmp_path, calls):
    text = '[[job]]\nvalidate = "good-out"\n'
    path = tmp_path / "jobs.toml"
    path.write_text(text + '[[job]]\nsource = "good"\nout = "good-out"\n')
    results = run_batch(read_manifest(path), workers=2)
    assert [result.job.command for result in results] == ["validate", "convert"]
    assert [line.split()[0] for line in calls()] == ["convert", "validate"]


def test_what_passed_is_not_run_again(tmp_path, calls):
    jobs = manifest(tmp_path, "good", "wrong")
    cache = tmp_path / "cache.json"
    run_batch(jobs, cache=Cache(cache))
    results = run_batch(jobs, cache=Cache(cache))
    assert [result.state for result in results] == ["cached", "failed"]
    # The folder of the job that failed is one that the batch wrote itself: it may be replaced.
    assert [line.endswith("--overwrite") for line in calls()] == [False, False, True]


def test_a_changed_artifact_runs_again_and_is_not_overwritten(tmp_path, calls):
    jobs = manifest(tmp_path, "good")
    cache = tmp_path / "cache.json"
    run_batch(jobs, cache=Cache(cache))
    (tmp_path / "good-out" / "model.py").write_text("# edited by hand")
    (result,) = run_batch(jobs, cache=Cache(cache))
    assert result.state == "failed"
    assert result.exit_code == 2
    assert (tmp_path / "good-out" / "model.py").read_text() == "# edited by hand"


def test_a_new_report_keeps_the_artifact_current(tmp_path, calls):
    jobs = manifest(tmp_path, "good")
    cache = tmp_path / "cache.json"
    run_batch(jobs, cache=Cache(cache))
    (tmp_path / "good-out" / "report.json").write_text("{}")
    assert run_batch(jobs, cache=Cache(cache))[0].state == "cached"


def test_a_damaged_cache_is_an_empty_one(tmp_path):
    path = tmp_path / "cache.json"
    path.write_text('{"schema": 1, "jobs": {')
    assert Cache(path).jobs == {}


def test_the_key_follows_source_and_options(tmp_path):
    source = tmp_path / "net.py"
    source.write_text("a = 1")
    keys = []

    def key(extra: str = "") -> str:
        path = tmp_path / "jobs.toml"
        path.write_text(f'[[job]]\nsource = "net.py:make"\nout = "o"\n{extra}')
        keys.append(job_key(read_manifest(path).jobs[0]))
        return keys[-1]

    assert key() == key()
    key('dtype = "float16"')
    (tmp_path / "layers.py").write_text("b = 2")
    key()
    source.write_text("a = 2")
    key()
    assert len(set(keys)) == 4


def test_identity_of_sources_of_other_kinds(tmp_path):
    assert source_identity("timm:resnet18") == ["timm:resnet18"]
    assert source_identity("hf://org/repo") == ["hf://org/repo"]
    assert source_identity("no_such_package.module:make") == ["no_such_package.module:make"]
    assert len(source_identity("porter.batch:Job")) > 5
    (tmp_path / "a.bin").write_bytes(b"12")
    (tmp_path / "config.json").write_text("{}")
    folder = source_identity(str(tmp_path))
    assert len(folder) == 3
    os.utime(tmp_path / "a.bin", (1, 1))
    assert source_identity(str(tmp_path)) != folder


def test_junit(tmp_path, calls):
    from xml.etree import ElementTree

    jobs = manifest(tmp_path, "good", "wrong", "gap", "crash")
    cache = tmp_path / "cache.json"
    run_batch(manifest(tmp_path, "good"), cache=Cache(cache))
    text = junit_xml(run_batch(jobs, cache=Cache(cache)), "jobs <1>\x00")
    suite = ElementTree.fromstring(text.encode()).find("testsuite")
    counts = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "4", "failures": "1", "errors": "2", "skipped": "1"}
    assert [[child.tag for child in case] for case in suite] == [
        ["skipped"],
        ["failure"],
        ["error"],
        ["error"],
    ]


OUTER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
sys.path.insert(0, sys.argv[1])
from porter.cli import main
main(["batch", sys.argv[2], "--jobs", "2"])
"""


def test_an_interrupt_ends_the_jobs_and_the_rest_goes_on_next_time(tmp_path, calls):
    manifest(tmp_path, "good", "hang", "hang2")
    root = str(Path(porter.__file__).parent.parent)
    words = [sys.executable, "-c", OUTER, root, str(tmp_path / "jobs.toml")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while len(calls()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stdout == ""
    assert "Traceback" not in stderr
    (result,) = run_batch(manifest(tmp_path, "good"), cache=Cache(tmp_path / "jobs.batch.json"))
    assert result.state == "cached"
