"""The manifest: TOML with one [[job]] for each conversion or validation, and [defaults] for all of them.

    [defaults]
    dtype = "float16"

    [[job]]
    source = "timm:resnet18"
    out = "ports/resnet18"

    [[job]]
    validate = "ports/resnet18"

Keys are the long options of `porter convert` or `porter validate`, with _ or - between words. Relative paths of
folders and files are taken from the manifest's folder.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from porter.errors import InputError

# Key -> the type that its value has in TOML. `str` keys in PATHS name files.
CONVERT_KEYS: dict[str, type] = {
    "dtype": str,
    "quantize": bool,
    "q_bits": int,
    "q_group_size": int,
    "q_mode": str,
    "input_layout": str,
    "mapping": str,
    "route": str,
    "input": list,
    "checkpoint": str,
    "trust_pickle": bool,
    "trust_remote_code": bool,
    "overwrite": bool,
    "no_proof": bool,
    "seed": int,
}
VALIDATE_KEYS: dict[str, type] = {"reference": str, "no_speed": bool, "no_probes": bool}
JOB_KEYS: dict[str, type] = {
    "source": str,
    "out": str,
    "validate": str,
    "name": str,
    "timeout": float,
}
PATHS = ("out", "validate", "mapping", "checkpoint", "reference")
TYPE_NAMES = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    list: "a list of strings",
    float: "seconds",
}


@dataclass(frozen=True, slots=True)
class Job:
    """One run of porter. `options` are long options without their dashes; `timeout` is in seconds."""

    name: str
    command: str
    source: str
    out: Path
    options: dict[str, Any]
    timeout: float | None

    def arguments(self) -> list[str]:
        """What follows `porter` on the command line."""
        words = [self.command, self.source]
        if self.command == "convert":
            words += ["-o", str(self.out)]
        for key, value in self.options.items():
            flag = f"--{key.replace('_', '-')}"
            if value is True:
                words.append(flag)
            elif isinstance(value, list):
                words += [word for item in value for word in (flag, item)]
            elif value is not False:
                words += [flag, str(value)]
        return words


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that has been read and found correct."""

    path: Path
    jobs: tuple[Job, ...]


def read_manifest(path: Path) -> Manifest:
    """Reads and checks a manifest. Raises InputError that names the key and the line of the first thing wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError(
            f"{path} is not a file; name a TOML manifest with [[job]] tables."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; name a TOML manifest.") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}.") from error
    return Manifest(path, tuple(_Reader(path, text, data).jobs()))


class _Reader:
    def __init__(self, path: Path, text: str, data: dict[str, Any]):
        self.path = path
        self.lines = text.splitlines()
        self.data = data

    def jobs(self) -> Iterator[Job]:
        for key in self.data:
            if key not in ("job", "defaults"):
                raise self.error(
                    key, None, f"unknown key {key!r}; there are [defaults] and [[job]]"
                )
        defaults = self.data.get("defaults", {})
        rows = self.data.get("job", [])
        if not isinstance(defaults, dict):
            raise self.error("defaults", None, "defaults must be a table: [defaults]")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self.error("job", None, "jobs must be tables: [[job]]")
        if not rows:
            raise InputError(f"{self.path} has no [[job]]; add one with source and out.")
        self.check(defaults, {**CONVERT_KEYS, **VALIDATE_KEYS, "timeout": float}, "defaults")
        names: set[str] = set()
        outs: set[Path] = set()
        for index, row in enumerate(rows):
            job = self.job(row, defaults, index)
            if job.name in names:
                raise self.error(
                    "name", index, f"two jobs are named {job.name!r}; give one a name of its own"
                )
            if job.command == "convert" and job.out in outs:
                raise self.error("out", index, f"two jobs write {job.out}")
            names.add(job.name)
            if job.command == "convert":
                outs.add(job.out)
            yield job

    def job(self, row: Mapping[str, Any], defaults: Mapping[str, Any], index: int) -> Job:
        validates = "validate" in row
        keys = VALIDATE_KEYS if validates else CONVERT_KEYS
        self.check(row, {**JOB_KEYS, **keys}, index)
        for key in ("source", "out"):
            if validates and key in row:
                raise self.error(
                    key,
                    index,
                    f"a job has either validate, or source and out; this one has {key} too",
                )
            if not validates and key not in row:
                raise self.error(None, index, f"the job lacks {key!r}")
        options = {
            key: value for key, value in {**defaults, **self.named(row)}.items() if key in keys
        }
        for key in PATHS:
            if key in options:
                options[key] = str(self.file(options[key]))
        folder = self.file(row["validate"] if validates else row["out"])
        source = str(folder) if validates else self.source(row["source"])
        name = row.get("name") or (f"validate {row['validate']}" if validates else row["out"])
        timeout = row.get("timeout", defaults.get("timeout"))
        return Job(name, "validate" if validates else "convert", source, folder, options, timeout)

    def check(self, row: Mapping[str, Any], known: Mapping[str, type], where: int | str) -> None:
        for key, value in row.items():
            expected = known.get(key.replace("-", "_"))
            if expected is None:
                choices = ", ".join(sorted(known))
                raise self.error(key, where, f"unknown key {key!r}; there are {choices}")
            if expected is float:
                right = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
            elif expected is list:
                right = isinstance(value, list) and all(isinstance(item, str) for item in value)
            else:
                right = type(value) is expected
            if not right:
                raise self.error(
                    key, where, f"{key!r} must be {TYPE_NAMES[expected]}, not {value!r}"
                )

    @staticmethod
    def named(row: Mapping[str, Any]) -> dict[str, Any]:
        return {key.replace("-", "_"): value for key, value in row.items()}

    def file(self, name: str) -> Path:
        return self.path.parent / name

    def source(self, spec: str) -> str:
        """A source that stands beside the manifest, by its path; any other as it is."""
        name, colon, factory = spec.rpartition(":") if ".py:" in spec else (spec, "", "")
        path = self.path.parent / name
        return f"{path}{colon}{factory}" if path.exists() else spec

    def error(self, key: str | None, where: int | str | None, message: str) -> InputError:
        return InputError(f"{self.path}, line {self.line(key, where)}: {message}.")

    def line(self, key: str | None, where: int | str | None) -> int:
        """The line (from 1) of a key in the job of that number, in [defaults], or at the top; else of the table."""
        header = re.compile(
            r"\s*\[\[\s*job\s*\]\]" if isinstance(where, int) else r"\s*\[\s*defaults\s*\]"
        )
        tables = [number for number, line in enumerate(self.lines) if header.match(line)]
        start = 0
        if where is not None and tables:
            start = tables[min(where, len(tables) - 1) if isinstance(where, int) else 0]
        if key is not None:
            definition = re.compile(rf"\s*\[*\s*[\"']?{re.escape(key)}[\"']?\s*[\]=.]")
            for number in range(start, len(self.lines)):
                if (
                    number > start
                    and where is not None
                    and self.lines[number].lstrip().startswith("[")
                ):
                    break
                if definition.match(self.lines[number]):
                    return number + 1
        return start + 1
