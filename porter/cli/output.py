"""Results go to stdout or to --json's file; everything else goes to stderr."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

SCHEMA = 1


def write_json(target: str, result: Mapping[str, Any]) -> None:
    """Write one JSON object to the file `target`, whole or not at all; `-` is stdout."""
    text = json.dumps(
        plain({"schema": SCHEMA, **result}), indent=2, ensure_ascii=False, allow_nan=False
    )
    if target == "-":
        click.echo(text)
        return
    path = Path(target)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def plain(value: Any) -> Any:
    """`value` with what JSON lacks spelled out: NaN and the infinities as strings, paths as strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return value


def print_result(target: str | None, result: Mapping[str, Any], text: str) -> None:
    """The result to --json's target; to stdout as text, but where stdout carries the JSON object."""
    if target is not None:
        write_json(target, result)
    if target != "-":
        click.echo(text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Columns two blanks apart, as wide as their widest cell; those whose numbers are in `right` are right-aligned."""
    cells = [tuple(header), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        columns = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(columns).rstrip())
    return "\n".join(lines)
