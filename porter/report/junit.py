"""Reports as JUnit XML, for porter batch and continuous integration."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree import ElementTree

from porter.report.schema import Report
from porter.report.text import headline

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Case:
    """One conversion or validation: a report, or the error that prevented it, or skipped."""

    name: str
    seconds: float = 0.0
    report: Report | None = None
    error: str = ""
    skipped: str = ""


def render(cases: Iterable[Case], suite: str = "porter") -> str:
    """One test suite; a fail or incomplete report is a failure, an exception an error."""
    cases = list(cases)
    failures = [c for c in cases if c.report is not None and not c.error and not c.report.passed]
    root = ElementTree.Element("testsuites")
    element = ElementTree.SubElement(root, "testsuite", {
        "name": _clean(suite), "tests": str(len(cases)), "failures": str(len(failures)),
        "errors": str(sum(bool(c.error) for c in cases)),
        "skipped": str(sum(bool(c.skipped) for c in cases)),
        "time": f"{sum(c.seconds for c in cases):.3f}",
    })  # fmt: skip
    for case in cases:
        _add(element, case)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add(suite: ElementTree.Element, case: Case) -> None:
    attributes = {"classname": "porter", "name": _clean(case.name), "time": f"{case.seconds:.3f}"}
    element = ElementTree.SubElement(suite, "testcase", attributes)
    if case.error:
        child = ElementTree.SubElement(element, "error", {"message": _clean(case.error)[:500]})
        child.text = _clean(case.error)
    elif case.skipped:
        ElementTree.SubElement(element, "skipped", {"message": _clean(case.skipped)})
    elif case.report is not None and not case.report.passed:
        message = _clean(headline(case.report))
        child = ElementTree.SubElement(element, "failure", {"message": message})
        child.text = _clean("\n".join(_details(case.report)))


def _details(report: Report) -> list[str]:
    lines = [
        f"{m.path}: margin {m.margin:.3g} {m.hint}" for m in report.modules if m.verdict == "fail"
    ]
    return lines + [f"not compared: {what}" for what in report.uncompared]


def _clean(text: str) -> str:
    """XML 1.0 has no control characters, not even escaped."""
    return _NOT_XML.sub("\ufffd", text)
