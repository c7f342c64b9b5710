"""A report as JSON, Markdown, HTML, console and JUnit; hostile names stay text."""

from __future__ import annotations

import io
import json
import math
from xml.etree import ElementTree

import pytest
from rich.console import Console

from porter.errors import InputError
from porter.report import ModuleResult, OutputResult, Report, console, html, junit, markdown

EVIL = "<script>alert(1)</script>[bold red]|`x`\n# h\x1b[31m\x00"


@pytest.fixture
def report():
    speed = {
        "runs": [{"side": "candidate", "mode": "eager", "median_ms": 1.5, "p90_ms": 2.0, "n": 9}],
        "ratio_to_reference": 2.0, "ratio_compiled_to_eager": 1.1, "notes": [],
    }  # fmt: skip
    return Report(
        "fail", EVIL, {"backend": "torch-cpu", "dtype": "float32", "device": "x86", "torch": "2"},
        [OutputResult("logits", (2, 10), "float32", 1e-6, 1e-5, 1e-6, 1.0, 0.3, "pass"),
         OutputResult(EVIL, (), "float32", math.inf, math.inf, math.inf, math.nan, 1e9, "fail")],
        [ModuleResult(EVIL, EVIL, 1.0, 500.0, "fail", EVIL), ModuleResult("a", "A", 0, 0, "pass")],
        [EVIL], [EVIL], speed=speed, compile={"equal": True, "retraces": 0},
        checks={"again": "pass", "state": f"fail: {EVIL}"}, notes=[EVIL],
    )  # fmt: skip


def test_json_round_trip_is_strict_and_keeps_the_schema(report):
    text = json.dumps(report.to_dict(), allow_nan=False)
    content = json.loads(text)
    assert {
        "schema", "verdict", "source", "reference", "outputs", "modules", "culprits", "uncompared",
        "tokens", "gradients", "compile", "speed", "memory",
    } <= set(content)  # fmt: skip
    assert {"path", "class", "max_abs", "margin", "verdict", "hint"} == set(content["modules"][0])
    assert Report.from_dict(content).to_dict() == content


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c.update(schema=2),
        lambda c: c.update(verdict="fine"),
        lambda c: c.pop("modules"),
        lambda c: c.update(outputs={}),
        lambda c: c["modules"][0].update(verdict="maybe"),
        lambda c: c["outputs"][0].pop("margin"),
    ],
)
def test_what_is_no_report_is_refused(report, spoil):
    content = report.to_dict()
    spoil(content)
    with pytest.raises(InputError):
        Report.from_dict(content)


def test_exit_codes():
    assert [Report(v, "", {}).exit_code for v in ("pass", "fail", "incomplete")] == [0, 1, 1]


def test_html_is_self_contained_and_escaped(report):
    page = html.render(report)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http://" not in page
    assert "https://" not in page
    assert report.speed["runs"][0].keys() == {"side", "mode", "median_ms", "p90_ms", "n"}


def test_markdown_tables_hold(report):
    text = markdown.render(report)
    assert "<script" not in text
    assert "\n# h" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and "logits" in line]
    assert rows == ["| logits | 2×10 | float32 | 1e-06 | 1e-06 | 0.3 | pass |"]
    assert "2.00 times as fast" in text


def test_console_takes_names_literally(report):
    stream = io.StringIO()
    console.show(report, Console(file=stream, width=300, force_terminal=True, color_system=None))
    shown = stream.getvalue()
    assert "[bold red]" in shown
    assert "\x1b[31m" not in shown
    assert "Failed" in shown


def test_junit_counts_and_parses(report):
    cases = [
        junit.Case("one", 1.5, Report("pass", "", {})),
        junit.Case(EVIL, 1.0, report),
        junit.Case("two", error=f"no op {EVIL}"),
        junit.Case("three", skipped="cached"),
    ]
    root = ElementTree.fromstring(junit.render(cases))
    suite = root.find("testsuite")
    counted = {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped", "time")}
    assert counted == {
        "tests": "4", "failures": "1", "errors": "1", "skipped": "1", "time": "2.500",
    }  # fmt: skip
