"""A batch's results as JUnit XML: one test case for each job."""

from __future__ import annotations

from collections.abc import Sequence

from porter.batch.executor import JobResult
from porter.errors import InputError
from porter.report import Report
from porter.report.junit import Case, render


def junit_xml(results: Sequence[JobResult], name: str) -> str:
    """The XML document. A comparison that failed is a failure, anything else that went wrong an error."""
    return render([_case(result) for result in results], name)


def _case(result: JobResult) -> Case:
    if result.state == "cached":
        return Case(result.job.name, skipped="unchanged since it passed")
    report = _report(result)
    if result.ok or (result.exit_code == 1 and report is not None and not report.passed):
        return Case(result.job.name, result.seconds, report)
    return Case(result.job.name, result.seconds, error=result.message or result.state)


def _report(result: JobResult) -> Report | None:
    """What the job's --json object holds: a report, or a conversion with one."""
    output = result.output or {}
    content = output.get("report") if result.job.command == "convert" else output
    try:
        return Report.from_dict(content or {})
    except InputError:
        return None  # the job ended before there was one; its message says why
