import json

import pytest
from click.testing import CliRunner

import porter.lowering
from porter.cli import main
from porter.coverage import FRONTEND, NO_ONNX_FRONTEND, coverage, totals


@pytest.fixture(scope="module")
def rows():
    registry = {"aten.relu.default": None, "aten.linear.default": None, "mylib.op.default": None}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(porter.lowering, "registry", lambda: registry)
        yield coverage()


def test_every_row_is_lowered_or_says_why_not(rows):
    assert all(bool(row.reason) != row.lowered for row in rows)


def test_names_are_those_of_the_registry(rows):
    lowered = {row.name for row in rows if row.lowered and not row.name.startswith(FRONTEND)}
    assert lowered == {"aten.relu.default", "aten.linear.default", "mylib.op.default"}
    assert len({row.name for row in rows}) == len(rows)


def test_totals(rows):
    counts = totals(rows)
    frontend = [row for row in rows if row.name.startswith(FRONTEND)]
    core = [row for row in frontend if row.core]
    assert counts["core aten"][0] == 1 + len(core)  # linear is not in the core set
    assert counts["core aten"][1] > 150
    assert counts["aten"][0] == 2 + len(frontend)
    assert counts["aten"][1] > 800
    assert counts["mylib"] == (1, 1)


def test_reasons(rows):
    reasons = {row.name: row.reason for row in rows}
    assert "training" in reasons["aten.convolution_backward.default"]
    assert "random" in reasons["aten.rand_like.default"]
    assert "depends on the data" in reasons["aten.nonzero.default"]
    assert not any(name.endswith(".out") for name in reasons)
    assert all(row.reason == NO_ONNX_FRONTEND for row in rows if row.dialect == "onnx")


def test_the_command(monkeypatch, rows):
    monkeypatch.setattr("porter.coverage.coverage", lambda: rows)
    text = CliRunner().invoke(main, ["ops"]).stdout
    assert "core aten: " in text
    assert "aten.linear.default" in text
    assert "aten.convolution_backward.default" in text
    missing = CliRunner().invoke(main, ["ops", "--missing"]).stdout
    assert "aten.linear.default" not in missing
    answer = json.loads(CliRunner().invoke(main, ["ops", "--json", "-"]).stdout)
    assert answer["schema"] == 1
    assert answer["totals"]["mylib"] == {"lowered": 1, "total": 1}
    assert len(answer["ops"]) == len(rows)
