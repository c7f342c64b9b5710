"""What passes between the sides on disk: a job, and a folder of npz files with a manifest.

The reference's folder (zipped, it is a recording):

    manifest.json   source, machine facts, inputs, runs, entries, used tensors, notes
    r0.npz          one run of the whole model: in0, in1, ... and out0, out1, ...
    e12c0.npz       one case of one entry (a module fed with given values): in0, ..., out0, ...

Inputs are float32 (or integers), outputs are the float64 reference, all in the source's layout.
The candidate writes files of the same names with its own out0, ... brought to that layout.
"""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from porter.errors import InputError
from porter.validate.metrics import Array

MANIFEST = "manifest.json"
FILE_NAME = re.compile(r"^(manifest\.json|[a-z0-9]+\.npz)$")
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Job:
    """What a side is asked to do. `entries` are porter.json's `proof.modules`.

    With `scopes` the reference makes the entries itself, one for each module call of the graph.
    `dequantized` names an npz of weights that the deployed model has instead of the source's.
    """

    folder: str
    spec: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    directory: str = ""
    reference: str = ""
    dtype: str = "float32"
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    scopes: bool = False
    probes: bool = True
    device: str = "cpu"
    dequantized: str = ""

    def write(self, file: Path) -> Path:
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return file

    @staticmethod
    def read(file: str | Path) -> Job:
        return Job(**json.loads(Path(file).read_text(encoding="utf-8")))


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    text = json.dumps({"schema": SCHEMA, **manifest})
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a reference's or recording's folder; raises InputError if it is none."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["schema"] != SCHEMA:
            raise InputError(
                f"The recording has schema {manifest['schema']!r}; this porter reads {SCHEMA}. "
                "Record it again with this version."
            )
        for run in [*manifest["runs"], *(c for e in manifest["entries"] for c in e["cases"])]:
            if not FILE_NAME.match(run["file"]):
                raise InputError(f"The recording names the file {run['file']!r}; it is damaged.")
        return dict(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"This is no recording of porter's: {error!r}.") from error


def write_arrays(
    file: Path, inputs: list[Array | None] | None, outputs: list[Array | None]
) -> None:
    """Saves in0, ... and out0, ...; a None keeps its place and is not written."""
    arrays = {f"in{i}": x for i, x in enumerate(inputs or []) if x is not None}
    arrays |= {f"out{i}": x for i, x in enumerate(outputs) if x is not None}
    np.savez(file, **arrays)  # type: ignore[arg-type]


def read_arrays(file: Path, prefix: str) -> dict[int, Array]:
    """The arrays `in` or `out` of one file by position; never unpickles."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            keys = [k for k in archive.files if re.fullmatch(prefix + r"\d+", k)]
            return {int(k[len(prefix) :]): archive[k] for k in keys}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{file.name} can't be read: {error}. It is damaged.") from error


def permuted(array: Array, permute: list[int] | None) -> Array:
    """Source layout to the MLX side's."""
    return array if permute is None else np.transpose(array, permute)


def restored(array: Array, permute: list[int] | None) -> Array:
    """The MLX side's layout back to the source's; what has another rank stays as it is."""
    if permute is None or array.ndim != len(permute):
        return array
    return np.transpose(array, np.argsort(permute))
