"""Which jobs need not run again: the same source, options and versions gave a proven port that still stands."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from porter import __version__
from porter.batch.manifest import PATHS, Job

SCHEMA = 1

# Packages whose release can change a result.
PACKAGES = ("torch", "mlx", "mlx-lm", "timm", "torchvision", "transformers")


class Cache:
    """Results of earlier runs, in a JSON file beside the manifest; written whole after every job."""

    def __init__(self, path: Path):
        self.path = path
        self.jobs: dict[str, dict[str, Any]] = {}
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except (json.JSONDecodeError, UnicodeDecodeError):
            return  # a damaged cache is an empty one: every job runs again
        if isinstance(data, dict) and data.get("schema") == SCHEMA:
            self.jobs = data["jobs"]

    def is_current(self, job: Job, key: str) -> bool:
        """Whether `job` passed with the same key, and the folder it wrote is still the one it wrote."""
        entry = self.jobs.get(job.name)
        return entry is not None and entry["passed"] and entry["key"] == key and self.wrote(job)

    def wrote(self, job: Job) -> bool:
        """Whether the job's folder is as an earlier run of this batch left it: such a folder may be replaced."""
        entry = self.jobs.get(job.name)
        return (
            entry is not None
            and entry["artifact"] is not None
            and entry["artifact"] == artifact_identity(job.out)
        )

    def remember(self, job: Job, key: str, *, passed: bool) -> None:
        """Note how `job` ended, and save. `key` is the job's key from before it ran."""
        self.jobs[job.name] = {
            "key": key,
            "passed": passed,
            "artifact": artifact_identity(job.out),
        }
        self.save()

    def save(self) -> None:
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        beside.write_text(
            json.dumps({"schema": SCHEMA, "jobs": self.jobs}, indent=1), encoding="utf-8"
        )
        beside.replace(self.path)


def job_key(job: Job) -> str:
    """A hash of all that a job's result follows from: source files, options and the files they name, versions."""
    facts = {
        "porter": __version__,
        "versions": {name: _version(name) for name in PACKAGES},
        "command": job.command,
        "source": source_identity(job.source),
        "options": job.options,
        "files": [_stat(Path(job.options[key])) for key in PATHS if key in job.options],
        "inputs": [
            _stat(Path(item.partition("=")[2]))
            for item in job.options.get("input", [])
            if Path(item.partition("=")[2]).is_file()
        ],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def source_identity(source: str) -> list[Any]:
    """The spec, and for what is local its files: Python by content, the rest by size and time of change.

    A factory's identity holds every Python file of its folder or package, since it may import any of them.
    """
    name, _, factory = source.rpartition(":")
    if name.endswith(".py") and Path(name).is_file():
        return [source, *_python(Path(name).parent.glob("*.py"))]
    path = Path(source)
    if path.is_file():
        return [source, _stat(path)]
    if path.is_dir():
        return [source, *(_stat(file) for file in sorted(path.rglob("*")) if file.is_file())]
    package = name.partition(".")[0]
    if (
        name
        and factory.isidentifier()
        and package.isidentifier()
        and name not in ("timm", "torchvision")
    ):
        spec = importlib.util.find_spec(package)
        if spec is not None:
            folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
            files = [file for folder in folders for file in folder.rglob("*.py")]
            return [source, *_python(files or [Path(spec.origin)] if spec.origin else files)]
    return [source]


def artifact_identity(directory: Path) -> str | None:
    """A hash of porter.json and the names, sizes and times of its neighbours; None where there is no porter.json.

    Reports are left out: a validation rewrites them.
    """
    try:
        text = (directory / "porter.json").read_bytes()
    except OSError:
        return None
    files = [
        file
        for file in sorted(directory.iterdir())
        if file.is_file() and not file.name.startswith("report.")
    ]
    stats = [_stat(file)[1:] for file in files if file.name != "porter.json"]
    return hashlib.sha256(
        text + json.dumps([[file.name for file in files], stats]).encode()
    ).hexdigest()


def _python(files: Iterable[Path]) -> list[list[str]]:
    return [[file.name, hashlib.sha256(file.read_bytes()).hexdigest()] for file in sorted(files)]


def _stat(path: Path) -> list[Any]:
    try:
        stat = path.stat()
    except OSError:
        return [str(path), None, None]
    return [str(path), stat.st_size, stat.st_mtime_ns]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
