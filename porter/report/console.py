"""A report on the terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from porter.report.schema import Report
from porter.report.text import headline, number, printable, speed_lines, worst

COLOURS = {"pass": "green", "warn": "yellow", "fail": "red", "incomplete": "yellow"}


def render(report: Report, modules: int = 8) -> RenderableType:
    """The verdict, outputs, worst modules, culprits, what was not compared, and speed."""
    parts: list[RenderableType] = [
        Text(headline(report), style=f"bold {COLOURS[report.verdict]}"),
        _outputs(report),
    ]
    if report.modules:
        parts.append(_modules(report, modules))
    hints = {m.path: m.hint for m in report.modules if m.hint}
    for path in report.culprits:
        parts.append(_line(f"culprit {path}: {hints.get(path, 'no known mistake fits')}", "red"))
    parts += [_line(f"not compared: {what}", "yellow") for what in report.uncompared[:10]]
    if len(report.uncompared) > 10:
        parts.append(_line(f"and {len(report.uncompared) - 10} more", "yellow"))
    parts += [_line(f"{name}: {found}") for name, found in report.checks.items() if found != "pass"]
    if report.speed:
        parts.append(_speed(report))
    parts += [_line(line) for line in speed_lines(report)]
    parts += [_line(f"note: {note}", "dim") for note in report.notes]
    return Group(*parts)


def _line(text: str, style: str = "") -> Text:
    """Never read as markup."""
    return Text(printable(text), style=style)


def show(report: Report, console: Console | None = None) -> None:
    (console or Console(stderr=True)).print(render(report))


def _outputs(report: Report) -> Table:
    table = Table("output", "shape", "dtype", "max abs", "rms rel", "cosine", "margin", "verdict")
    for o in report.outputs:
        shape = "x".join(map(str, o.shape))
        cosine = f"{o.cosine:.9f}" if o.cosine == o.cosine else "-"
        table.add_row(
            _line(o.name), shape, o.dtype, number(o.max_abs), number(o.rms_rel), cosine,
            number(o.margin), Text(o.verdict, style=COLOURS[o.verdict]),
        )  # fmt: skip
    return table


def _modules(report: Report, count: int) -> Table:
    table = Table("worst modules", "class", "max abs", "margin", "verdict")
    for m in worst(report, count):
        verdict = Text(m.verdict, style=COLOURS[m.verdict])
        table.add_row(_line(m.path), _line(m.cls), number(m.max_abs), number(m.margin), verdict)
    return table


def _speed(report: Report) -> Table:
    table = Table("side", "mode", "median ms", "p90 ms", "first ms", "n")
    for run in (report.speed or {}).get("runs", []):
        cells = [number(run.get(k)) for k in ("median_ms", "p90_ms", "first_ms")]
        table.add_row(_line(run["side"]), _line(run["mode"]), *cells, str(run["n"]))
    return table
