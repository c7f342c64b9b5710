"""Results as JSON lines, one file for each suite; the last line of a case counts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

#: Ignored by git: figures are read in docs/COVERAGE.md.
FOLDER = Path("build/zoo")


def read(folder: Path, suite: str) -> dict[str, dict[str, Any]]:
    """Case name -> its record."""
    path = folder / f"{suite}.jsonl"
    if not path.exists():
        return {}
    lines = path.read_text("utf-8").splitlines()
    return {record["case"]: record for record in map(json.loads, lines)}


def append(folder: Path, suite: str, record: dict[str, Any]) -> None:
    """Adds a case's record; its emitted source goes to a file of its own."""
    source = record.pop("source", None)
    if source is not None:
        (folder / suite).mkdir(parents=True, exist_ok=True)
        name = record["case"].replace("/", "_")
        (folder / suite / f"{name}.py").write_text(source, "utf-8")
    with (folder / f"{suite}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def commit() -> str:
    """The checkout that measures, short; "+" where files differ from it, "" outside of git."""
    command = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    here = Path(__file__).parent
    found = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    return found.stdout.strip()
