"""The few ways in which a report shows a number."""

from __future__ import annotations

import math
from typing import Any

from porter.report.schema import ModuleResult, Report


def number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf"
    return "0" if value == 0 else f"{value:.3g}"


def printable(text: str) -> str:
    """One line without control characters: a name can't move the cursor or set colours."""
    return "".join(c if c.isprintable() else " " for c in text)


def worst(report: Report, count: int) -> list[ModuleResult]:
    """The modules with the largest margins, what failed first."""
    return sorted(report.modules, key=lambda m: -m.margin)[:count]


def headline(report: Report) -> str:
    """One sentence with the verdict."""
    failed = sum(m.verdict == "fail" for m in report.modules)
    warned = sum(m.verdict == "warn" for m in report.modules)
    compared = f"{len(report.outputs)} outputs and {len(report.modules)} modules compared"
    if report.verdict == "pass":
        return f"Proven: {compared}" + (f", {warned} with a precision warning." if warned else ".")
    if report.verdict == "incomplete":
        return f"Incomplete: {compared}, {len(report.uncompared)} things could not be."
    return f"Failed: {compared}, {failed} modules differ."


def speed_lines(report: Report) -> list[str]:
    """Sentences on the speed; a ratio is always shown with what it compares."""
    speed = report.speed
    if not speed:
        return []
    lines = []
    notes = [str(note) for note in speed.get("notes", [])]
    unclear = {note.partition(":")[0] for note in notes if "inconclusive" in note}
    if speed.get("ratio_to_reference") and "reference" not in unclear:
        lines.append(
            f"{speed['ratio_to_reference']:.2f} times as fast as {machine(report.reference)}"
        )
    if speed.get("ratio_compiled_to_eager") and "compiled" not in unclear:
        lines.append(f"{speed['ratio_compiled_to_eager']:.2f} times as fast compiled as eager")
    return lines + notes


def machine(reference: dict[str, Any]) -> str:
    parts = [str(reference.get("backend", "torch")), str(reference.get("torch") or "")]
    device = str(reference.get("device") or "")
    return " ".join(p for p in parts if p) + (f" on {device}" if device else "")
