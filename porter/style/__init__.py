"""Whether emitted source reads as an MLX expert's: docs/STYLE.md says what each check means and how experts do by it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from porter.style.finding import Finding
from porter.style.fusions import check_attention, check_heads, check_patterns
from porter.style.layouts import check_transposes, check_weights
from porter.style.lengths import (
    check_attention_transposes,
    check_calls,
    check_constructors,
    check_expert,
    check_file,
    check_median_call,
)
from porter.style.reading import Reading
from porter.style.residue import check_imports, check_lint, check_names, check_syncs
from porter.style.sizes import check_sizes
from porter.style.structure import check_structure

__all__ = ["CHECKS", "Finding", "check"]

Check = Callable[[Reading], Iterator[Finding]]

#: S12 and S13 need the folder: porter.style.folder.
CHECKS: dict[str, Check] = {
    "S1": check_imports,
    "S2": check_syncs,
    "S3": check_names,
    "S4": check_sizes,
    "S5": check_transposes,
    "S6": check_attention,
    "S7": check_heads,
    "S8": check_weights,
    "S9": check_patterns,
    "S10": check_structure,
    "S11": check_lint,
    "L1": check_calls,
    "L2": check_median_call,
    "L3": check_constructors,
    "L4": check_file,
    "L5": check_attention_transposes,
}
_STATED = re.compile(r"#\s*(S\d+|L\d+): \S")


def check(
    source: str, *, expert: str | None = None, only: tuple[str, ...] | None = None
) -> list[Finding]:
    """Every finding of the checks (those in `only`) in a model's source, by line.

    `expert` is the source of an expert's port of the same model, for the comparison of lengths. A line with the comment
    `# S2: reason`, or the one below it, is excused from that check. Raises SyntaxError where `source` is no Python.
    """
    reading = Reading(source)
    found = [
        finding
        for name, function in CHECKS.items()
        if only is None or name in only
        for finding in function(reading)
    ]
    if expert is not None:
        found += check_expert(reading, expert)
    excused = {
        (match[1], line + below)
        for line, text in enumerate(reading.lines, 1)
        for match in _STATED.finditer(text)
        for below in (0, 1)
    }
    return sorted(
        (f for f in found if (f.check, f.line) not in excused), key=lambda f: (f.line, f.check)
    )
