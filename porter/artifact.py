"""What porter's output folder DIR holds; it appears whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from porter import __version__
from porter.errors import InputError, MachineError, UsageError

SCHEMA = 1
FACTS_FILE = "porter.json"
CONFIG_FILE = "config.json"
MODEL_FILE = "model.py"
MAPPING_FILE = "mapping.toml"
VALUE_FIELDS = ("name", "dtype", "shape", "permute")
_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """porter.json. `inputs` and `outputs` hold name, dtype, shape (named dims as text) and permute (or None).

    sha256 is the fingerprint of the source's weights; porter, mlx and torch are the versions that made DIR.
    """

    source: str
    sha256: str
    route: str
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]
    proof: dict[str, Any] = dataclasses.field(default_factory=dict)
    porter: str = ""
    mlx: str = ""
    torch: str = ""


@contextmanager
def stage(directory: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """A new folder beside `directory` to write into; it takes the name when the block ends well, else it goes.

    An older output stays until the new one is complete and on the disk.
    Raises UsageError when `directory` exists and may not be replaced, MachineError when the disk fails.
    """
    final = Path(os.path.realpath(directory))
    _check_replaceable(final, overwrite)
    with _disk_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(
            tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent)
        )
    try:
        with _disk_errors(final):
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            _sync(temporary)
            _check_replaceable(final, overwrite)
            _take_name(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def clear(folder: Path) -> None:
    """Empties a staged folder, for another attempt."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_facts(folder: Path, facts: Facts) -> None:
    """Writes porter.json; versions that `facts` leaves empty are those installed here."""
    for value in (*facts.inputs, *facts.outputs):
        _check_value(value)
    content = {"schema": SCHEMA}
    for name in ("porter", "mlx", "torch"):
        content[name] = getattr(facts, name) or _version(name)  # type: ignore[assignment]
    for name in ("source", "sha256", "route", "inputs", "outputs", "proof"):
        content[name] = getattr(facts, name)
    write_json(folder / FACTS_FILE, content)


def read_facts(directory: str | Path) -> Facts:
    """Reads porter.json; InputError when `directory` is not a porter output."""
    path = Path(directory) / FACTS_FILE
    content = read_json(path)
    fields = [field.name for field in dataclasses.fields(Facts)]
    missing = [name for name in fields if name not in content]
    if content.get("schema") != SCHEMA or missing:
        raise InputError(
            f"{path} is not of this porter (schema 1, lacks {missing}): convert again."
        )
    facts = {name: content[name] for name in fields}
    try:
        for side in ("inputs", "outputs"):
            facts[side] = tuple(facts[side])
            for value in facts[side]:
                _check_value(value)
    except (UsageError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}): convert again.") from None
    return Facts(**facts)


def write_config(
    folder: Path,
    fields: Mapping[str, Any],
    model_type: str,
    source_config: Mapping[str, Any] | None = None,
) -> None:
    """Writes config.json: what the source's had, over it ModelArgs' fields, model_type and model_file."""
    own = {**fields, "model_type": model_type, "model_file": MODEL_FILE}
    write_json(folder / CONFIG_FILE, {**(source_config or {}), **own})


def pass_through(folder: Path, files: Iterable[Path]) -> None:
    """Copies tokenizer, processor and generation files; one that porter writes itself stays porter's."""
    for file in files:
        target = folder / file.name
        if not target.exists():
            shutil.copyfile(file, target)


def write_json(path: Path, content: object) -> None:
    """Writes `content` as indented JSON."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object; InputError when it does not."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the folder.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not proper JSON ({error}): convert again.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold a JSON object: convert again.")
    return content


def _check_value(value: Any) -> None:
    """One entry of inputs or outputs, as porter.json's schema has it."""
    if not isinstance(value, Mapping) or any(name not in value for name in VALUE_FIELDS):
        raise UsageError(
            f"an entry of {FACTS_FILE} needs {', '.join(VALUE_FIELDS)}, and is {value!r}"
        )
    permute, shape = value["permute"], value["shape"]
    if permute is not None and sorted(permute) != list(range(len(shape))):
        raise UsageError(f"{value['name']!r} of shape {shape} cannot be permuted by {permute}")


def _check_replaceable(final: Path, overwrite: bool) -> None:
    """`final` is free, or an older output (or an empty folder) that `overwrite` allows to go."""
    if not os.path.lexists(final):
        return
    if not overwrite:
        raise UsageError(f"{final} exists: name another folder, or pass --overwrite.")
    if not final.is_dir():
        raise UsageError(f"{final} is a file: name a folder.")
    if any(final.iterdir()) and not _is_output(final):
        raise UsageError(
            f"{final} holds something that porter did not write, and is left alone: name another folder."
        )


def _is_output(folder: Path) -> bool:
    try:
        content = read_json(folder / FACTS_FILE)
    except InputError:
        return False
    return "schema" in content and "porter" in content


def _take_name(temporary: Path, final: Path) -> None:
    """Renames `temporary` to `final`; what stood there goes only afterwards, and comes back when that fails."""
    old = None
    if final.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".old", dir=final.parent))
        final.rename(old)
    try:
        temporary.rename(final)
    except BaseException:
        if old is not None:
            old.rename(final)
        raise
    _sync_one(final.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _disk_errors(final: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = _FULL.get(error.errno or 0, str(error))
        raise MachineError(
            f"{final} cannot be written ({reason}); nothing of it is left behind: free space, or name another place."
        ) from error


def _sync(folder: Path) -> None:
    """Brings every file of the folder to the disk."""
    for path in (*folder.rglob("*"), folder):
        _sync_one(path)


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _version(package: str) -> str:
    if package == "porter":  # of this code, installed or run from a checkout
        return __version__
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
