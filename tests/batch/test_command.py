import json

import pytest
from click.testing import CliRunner

from porter.batch import executor
from porter.batch.executor import JobResult
from porter.cli import main


@pytest.fixture
def path(tmp_path, monkeypatch):
    states = {"a": "passed", "b": "failed", "c": "crashed"}

    def run_job(job, timeout, processes=None):
        state = states[job.source]
        code = {"passed": 0, "failed": 1, "crashed": -9}[state]
        return JobResult(
            job, state, code, 1.5, "" if code == 0 else "why it failed", {"verdict": "pass"}
        )

    monkeypatch.setattr(executor, "run_job", run_job)
    return tmp_path / "jobs.toml"


def write(path, *sources):
    path.write_text(
        "".join(f'[[job]]\nsource = "{source}"\nout = "{source}"\n' for source in sources)
    )


def test_all_passed(path):
    write(path, "a")
    result = CliRunner().invoke(main, ["batch", str(path)])
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "1 passed"


def test_any_failure_is_1_and_says_why_on_stderr(path, tmp_path):
    write(path, "a", "b", "c")
    result = CliRunner().invoke(
        main, ["batch", str(path), "--json", "-", "--junit", str(tmp_path / "j.xml")]
    )
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["schema"] == 1
    assert answer["ok"] is False
    assert answer["counts"] == {"passed": 1, "failed": 1, "crashed": 1}
    assert [job["state"] for job in answer["jobs"]] == ["passed", "failed", "crashed"]
    assert "b: why it failed" in result.stderr
    assert "<testsuites>" in (tmp_path / "j.xml").read_text()


def test_a_bad_manifest_is_4(path):
    path.write_text('[[job]]\nsource = "a"\n')
    result = CliRunner().invoke(main, ["batch", str(path)])
    assert result.exit_code == 4
    assert "line 1" in result.stderr
    assert "lacks 'out'" in result.stderr


def test_no_manifest_is_wrong_usage():
    assert CliRunner().invoke(main, ["batch"]).exit_code == 2
