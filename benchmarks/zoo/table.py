"""docs/COVERAGE.md from the results: a summary line for each suite, then every failure with its reason."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

Record = dict[str, Any]
PACKAGES = ("torch", "mlx", "timm", "torchvision", "transformers", "diffusers")
COLUMNS: tuple[tuple[str, str], ...] = (
    ("exported", "exported by torch"),
    ("converted", "converted"),
    ("correct", "correct"),
    ("other_sizes", "correct at other sizes"),
    ("compiled", "compiled equal"),
    ("gradients", "gradients correct"),
    ("style", "style clean"),
    ("decode", "decodes through a cache"),
    ("shard", "two processes as one"),
    ("greedy", "writes transformers' text"),
)
INTRODUCTION = """\
# Coverage

Written by `make zoo` ({date}; {versions}; {machine}).
Each case runs in a process of its own, with random weights
that leave nothing at zero or one; a module that torch itself cannot build or run counts in no column.

- **exported by torch**: `torch.export` takes the module.
- **converted**: `porter.compile.compile_port` gives a source.
- **correct**: the loaded port's outputs against torch's: relative RMS error up to 1e-4 in float32, or up to eight times
  torch's own against float64; integers equal; where the samples of a batch hardly differ, what differs agrees to 1e-2.
- **correct at other sizes**: the same at another batch, length, height and width, as far as the source runs there and
  the port left them free.
- **compiled equal**: `mx.compile` gives the eager result (1e-5).
- **gradients correct**: of a random weighting of the outputs, by every parameter and floating input, within 1e-3 of torch's, or
  up to eight times torch's own error against float64.
- **style clean**: no hard check of the style is violated; S5 findings are transposes beside a conv, a pool or a norm, and
  more than one at a boundary.
- **decodes through a cache**: token by token through the cache gives what the whole forward gives (1e-4).
- **two processes as one**: of a decoder with `shard`, the whole text and decoding by two processes over the ring give what
  one process gives (1e-4).
- **writes transformers' text**: of an encoder-decoder, 16 greedy tokens a row are those of transformers' `generate`, up to a
  token that is a tie in torch (1e-4 of the largest logit).

A column says for how many of the cases that it was measured on it holds. Times are CPU seconds from the built module to
its source.
"""


def render(suites: dict[str, dict[str, Record]], date: str, sizes: dict[str, int]) -> str:
    """The whole document; `sizes` are the numbers of cases that the suites have."""
    versions = ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name)))
    parts = [
        INTRODUCTION.format(
            date=date, versions=versions, machine=f"{platform.system()} {platform.machine()}, CPU"
        )
    ]
    parts.append(_summary(suites, sizes))
    for name, records in suites.items():
        parts.append(_details(name, list(records.values())))
    return "\n".join(parts)


def _summary(suites: dict[str, dict[str, Record]], sizes: dict[str, int]) -> str:
    titles = [
        "suite",
        "cases measured, of",
        *(title for _, title in COLUMNS),
        "seconds, median and most",
        "transposes",
        "S5 findings",
        "commit, last day",
    ]
    rows = [titles, ["---"] * len(titles)]
    for name, records in suites.items():
        cases = [r for r in records.values() if _runs(r)]
        seconds = [r["seconds"] for r in cases if "seconds" in r]
        spent = f"{median(seconds):.1f}, {max(seconds):.1f}" if seconds else ""
        transposes = str(sum(r.get("transposes", 0) for r in cases))
        beside = str(sum(r.get("findings", {}).get("S5", 0) for r in cases))
        counts = [_count(cases, key) for key, _ in COLUMNS]
        row = [name, f"{len(cases)}, {sizes[name]}", *counts, spent, transposes, beside]
        rows.append([*row, _measured_on(cases)])
    return _lines(rows)


def _measured_on(cases: list[Record]) -> str:
    """The commit, or the first, the last and how many; the last day."""
    order = sorted(cases, key=lambda record: record.get("when", ""))
    commits = list(dict.fromkeys(record.get("commit") or "unknown" for record in order))
    if not commits:
        return ""
    named = commits[0] if len(commits) == 1 else f"{commits[0]} to {commits[-1]} ({len(commits)})"
    return f"{named}, {order[-1].get('when', '')[:10]}"


def _runs(record: Record) -> bool:
    return "exported" in record or record.get("stage") not in ("build", "reference")


def _count(cases: list[Record], key: str) -> str:
    early = key in ("exported", "converted", "correct")
    known = cases if early else [r for r in cases if r.get(key) is not None]
    if not known:
        return "not measured"
    return f"{sum(bool(r.get(key)) for r in known)} / {len(known)}"


def _details(name: str, records: list[Record]) -> str:
    sections: tuple[tuple[str, Callable[[Record], str]], ...] = (
        ("Not correct", lambda r: "" if not _runs(r) or r.get("correct") else _reason(r)),
        ("Correct, and then", lambda r: _later(r) if r.get("correct") else ""),
        ("Style: hard checks violated", _findings),
        ("Sizes that stayed as traced", _fixed),
        ("Not run by torch itself here", lambda r: "" if _runs(r) else _reason(r)),
    )
    text = [f"\n## {name}\n"]
    for title, reason in sections:
        found = [(r["case"], reason(r)) for r in records]
        rows = [f"- `{case}`: {why}" for case, why in sorted(found) if why]
        if rows:
            text += [f"### {title} ({len(rows)})\n", *rows, ""]
    return "\n".join(text)


def _later(record: Record) -> str:
    """What failed of a case whose outputs agree."""
    if record.get("other_sizes") is False:
        return _reason(record)
    if record.get("compiled") is False:
        return f"compiled and eager differ by {record['compiled_error']:.1e}"
    if record.get("gradients") is False:
        return f"the gradient of {record['at']} is off by {record['gradients_error']:.1e}"
    for column, why in (
        ("decode", "decoding through the cache differs from the whole forward"),
        ("greedy", "the greedy tokens are others than those of transformers"),
    ):
        if record.get(column) is False:
            return why
    return "" if record.get("stage") == "done" else _reason(record)


def _findings(record: Record) -> str:
    return ", ".join(f"{check} x{count}" for check, count in record.get("findings", {}).items())


def _fixed(record: Record) -> str:
    notes = [note for note in record.get("notes", ()) if "fixed" in note or "as traced" in note]
    dims = ", ".join(record.get("fixed", ()))
    said = _INSTALLED.sub("", "; ".join(notes)) or "by the graph"
    return f"{dims} ({said})" if dims else ""


#: Where packages are on the machine that measured: nobody else's path.
_INSTALLED = re.compile(r"/\S*/(?:site-packages|dist-packages)/")


def _reason(record: Record) -> str:
    why = _INSTALLED.sub("", record.get("reason", "no reason recorded"))
    return f"{why} (in: {record['stage']})" if "stage" in record and " in: " not in why else why


def _lines(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
