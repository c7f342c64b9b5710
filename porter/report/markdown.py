"""The parity and speed tables of DIR/README.md."""

from __future__ import annotations

from collections.abc import Sequence

from porter.report.schema import Report
from porter.report.text import headline, number, speed_lines, worst


def render(report: Report, modules: int = 5) -> str:
    """Markdown without a heading of its own."""
    rows = [
        (o.name, "×".join(map(str, o.shape)), o.dtype, number(o.max_abs), number(o.rms_rel),
         number(o.margin), o.verdict)
        for o in report.outputs
    ]  # fmt: skip
    parts = [
        headline(report),
        table(("output", "shape", "dtype", "max abs", "rms rel", "margin", "verdict"), rows),
    ]
    if report.modules:
        found = [(m.path, m.cls, number(m.margin), m.verdict) for m in worst(report, modules)]
        parts.append(table(("worst modules", "class", "margin", "verdict"), found))
    if report.uncompared:
        parts.append("\n".join(f"- not compared: {escape(w)}" for w in report.uncompared))
    if report.speed:
        runs = [
            (r["side"], r["mode"], number(r["median_ms"]), number(r["p90_ms"]), str(r["n"]))
            for r in report.speed.get("runs", [])
        ]
        parts.append(table(("side", "mode", "median ms", "p90 ms", "n"), runs))
        parts += [f"{escape(line)}." for line in speed_lines(report)]
    parts.append(
        "The margin is the port's error against torch in float64, over what a correct port may "
        "have: up to 1 is equal, up to 30 a matter of precision, above that wrong."
    )
    return "\n\n".join(parts) + "\n"


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(map(escape, row)) + " |" for row in rows]
    return "\n".join(lines)


def escape(text: str) -> str:
    """A cell can't break out of its table, nor start HTML, a link or emphasis."""
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"&#{ord(mark)};" if mark in "<>|" else "\\" + mark)
    return " ".join(text.split())
