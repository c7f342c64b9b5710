"""docs/DECODERS.md from the results of the suite "decoders"."""

from __future__ import annotations

import functools
import importlib.util
import platform
import re
import statistics
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

Record = dict[str, Any]
INTRODUCTION = """\
# Decoders

Written by `make decoders` ({date}; torch {torch}, transformers {transformers}, mlx {mlx}, mlx-lm {lm}; {machine}). Each
causal language model of transformers at a small random configuration, ported by its graph alone.

- **logits**: the port's against torch's, relative RMS error up to 1e-4 (or eight times torch's own against float64).
- **cache**: what `make_cache` gives its layers; none is a plain forward, and the last column says what is in the way.
- **decode**: a text in pieces and token by token through the cache equals the whole text at once, past every window (1e-4).
- **padding**: a row padded at the left in a batch equals the row alone, and so does the step after it (1e-4).
- **lines**: of the emitted file; beside them those of mlx-lm's file for the type, where it has one, and the ratio.
"""
COLUMNS = (
    "type", "converted", "logits", "cache", "decode", "padding", "lines", "mlx-lm's", "ratio", "why not",
)  # fmt: skip
#: An expert's file may be so much shorter.
LONGEST = 1.3


def render(records: dict[str, Record], date: str, count: int) -> str:
    """The whole document; `count` is the number of types that there are."""
    facts = {name: version(name) for name in ("torch", "transformers", "mlx")}
    text = INTRODUCTION.format(
        date=date, lm=version("mlx-lm"), machine=platform.platform(terse=True), **facts
    )
    rows = [_row(record) for record in records.values()]
    ran = [r for r in records.values() if r.get("exported") is not None]
    text += "\n" + "\n".join(_summary(ran, len(records), count)) + "\n\n"
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    return text + "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


@functools.cache
def expert_lines(kind: str) -> int | None:
    """The lines of mlx-lm's file for the type; None where it has none, or one that builds on another's."""
    from mlx_lm.utils import MODEL_REMAPPING

    spec = importlib.util.find_spec(f"mlx_lm.models.{MODEL_REMAPPING.get(kind, kind)}")
    if spec is None or spec.origin is None:
        return None
    source = Path(spec.origin).read_text("utf-8")
    own = re.search(r"^class \w*(Attention|Mixer|Block)\w*\(", source, re.M)
    return len(source.splitlines()) if own else None


def _ratio(record: Record) -> float | None:
    theirs = expert_lines(record["case"])
    return record["lines"] / theirs if theirs and record.get("lines") else None


def _summary(ran: list[Record], tried: int, count: int) -> list[str]:
    def number(holds: Callable[[Record], Any]) -> int:
        return sum(bool(holds(record)) for record in ran)

    ratios = [ratio for record in ran if (ratio := _ratio(record)) is not None]
    return [
        f"{tried} of the {count} types have been run so far (the runner goes on where it stopped);",
        f"{len(ran)} have a small configuration that runs in torch. Of these",
        f"- {number(lambda r: r.get('exported'))} are exported by torch,",
        f"- {number(lambda r: r.get('converted'))} are converted, {number(lambda r: r.get('correct'))} with the right logits,",
        f"- {number(lambda r: r.get('caches'))} have a cache, {number(lambda r: r.get('decode') and r.get('correct'))} of them",
        "  decode to what the plain forward gives.",
        f"Of {len(ratios)} types that mlx-lm has a file for, the ports of {sum(r <= LONGEST for r in ratios)}",
        f"are at most {LONGEST} times as long; the median is {statistics.median(ratios or [0]):.2f}.",
    ]


def _row(record: Record) -> list[str]:
    marks = {True: "yes", False: "**no**", None: ""}
    why = record.get("reason", "") or next(
        (n for n in record.get("notes", ()) if n.startswith("no cache")), ""
    )
    return [
        record["case"],
        marks[record.get("converted")],
        marks[record.get("correct")],
        record.get("caches", ""),
        marks[record.get("decode")],
        marks[record.get("padding")],
        str(record.get("lines", "")),
        str(expert_lines(record["case"]) or ""),
        "" if (ratio := _ratio(record)) is None else f"{ratio:.2f}",
        why.partition(" at /")[0].replace("|", "/").replace("\n", " ")[:160],
    ]
