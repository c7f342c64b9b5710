"""Emitted source as ruff formats it."""

from __future__ import annotations

import subprocess
import sys

LINE_LENGTH = 100


def format_source(source: str) -> str:
    """The source as ruff formats it, imports sorted."""
    command = [sys.executable, "-m", "ruff"]
    options = ["--line-length", str(LINE_LENGTH), "--stdin-filename", "model.py", "-"]
    formatted = subprocess.run(
        [*command, "format", "--isolated", *options],
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    if formatted.returncode:
        raise RuntimeError(
            f"porter emitted source that does not parse:\n{formatted.stderr}\n{source}"
        )
    fixed = subprocess.run(
        [*command, "check", "--isolated", "--select", "I,F401,F841", "--fix", "--quiet", *options],
        input=formatted.stdout, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return fixed.stdout
