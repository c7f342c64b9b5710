"""A verdict and its report as the text that stands on stdout."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from porter.report import Report

PIPE_WIDTH = 120  # characters, where stdout is not a terminal


def summary(directory: Path, verdict: str, report: Report | None) -> str:
    """The folder and the verdict on the first line, the report's tables below."""
    first = f"{directory}: {verdict}"
    if report is None:
        return first
    from rich.console import Console

    from porter.report.console import render

    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    with console.capture() as capture:
        console.print(render(report))
    return f"{first}\n{capture.get().rstrip()}"
