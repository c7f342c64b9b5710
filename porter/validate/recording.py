"""A recording: the reference's folder as one zip, to validate against where torch is not.

`record` makes one entry for each module call of the exported graph. A port's own entries are
matched to these by the graph values they name. Where a port's module spans other borders than the
source's, its values are taken from whatever recorded entries hold them; where they are in none,
the module stays uncompared and is listed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from porter.errors import InputError
from porter.validate import environment
from porter.validate import speed as timing
from porter.validate.data import (
    FILE_NAME,
    MANIFEST,
    Job,
    read_arrays,
    read_manifest,
    write_arrays,
    write_manifest,
)
from porter.validate.deployed import Deployed
from porter.validate.metrics import Array
from porter.validate.protocol import Process, Progress, Side

if TYPE_CHECKING:
    from porter.sources import SourceOptions

SECONDS = 5.0
CPU_MODES = (("reference", "eager"),)
CUDA_MODES = tuple(("reference", mode) for mode in ("eager", "compiled", "cuda-graph"))


def record(
    source: str,
    options: SourceOptions | None = None,
    file: str | Path = "recording.zip",
    *,
    device: str = "cpu",
    speed: bool = True,
    progress: Progress = lambda _: None,
) -> Path:
    """Runs the reference here and saves what a validation elsewhere needs, in one file.

    `device` is where the timings are taken ("cpu" or "cuda"); the values are always the CPU's, in
    float32 and float64, so that every machine judges by the same truth.
    """
    target = Path(file)
    folder = Path(tempfile.mkdtemp(prefix="porter-record-"))
    side: Side | None = None
    try:
        (folder / "reference").mkdir()
        chosen = asdict(options) if options is not None else {}
        job = Job(
            folder=str(folder / "reference"), spec=source, options=chosen, scopes=True,
            device=device, dtype=chosen.get("dtype") or "float32",
        )  # fmt: skip
        process = Process(
            "porter.validate.reference", job.write(folder / "job.json"), folder / "log",
            environment.reference(), progress,
        )  # fmt: skip
        side = process
        process.read()
        manifest = read_manifest(folder / "reference")
        if speed:
            modes = CUDA_MODES if device.startswith("cuda") else CPU_MODES
            found = timing.measure({"reference": side}, SECONDS, modes, progress)
            manifest["reference"]["timings"] = found["runs"] if found else []
            write_manifest(folder / "reference", manifest)
        _pack(folder / "reference", target)
    finally:
        if side is not None:
            side.close()
        shutil.rmtree(folder, ignore_errors=True)
    return target


def _pack(folder: Path, target: Path) -> None:
    """Whole or not at all: written beside, synced, renamed. Floats hardly compress: stored."""
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with beside.open("wb") as stream:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
                for part in sorted(folder.iterdir()):
                    archive.write(part, part.name)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def unpack(file: Path, folder: Path) -> None:
    """Unpacks into `folder`; a name that porter does not write is an InputError."""
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if not FILE_NAME.match(member.filename):
                    raise InputError(f"{file} holds {member.filename!r}; it is no recording.")
            if MANIFEST not in archive.namelist():
                raise InputError(f"{file} holds no {MANIFEST}; it is no recording of porter's.")
            archive.extractall(folder)
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{file} is no recording of porter's, or damaged: {error}.") from error


def adopt(file: Path, port: Deployed, folder: Path) -> None:
    """Makes `folder` a reference's folder for `port` from a recording."""
    unpack(file, folder)
    manifest = read_manifest(folder)
    recorded = manifest["entries"]
    known = Values(recorded)
    entries = []
    for index, entry in enumerate(port.entries):
        keys = ("path", "class", "leaf", "source", "inputs", "outputs")
        kept = {k: entry.get(k) for k in keys} | {"index": index, "cases": [], "reason": ""}
        match = next((r for r in recorded if _same(r, entry)), None)
        if match is not None:
            kept["cases"] = [_reordered(c, match, entry, folder, index) for c in match["cases"]]
            kept["reason"] = match["reason"]
        else:
            kept |= known.compose(entry, folder, index)
        entries.append(kept)
    manifest["entries"] = entries
    if manifest["reference"]["dtype"] != port.dtype:
        _as_deployed(manifest, port.dtype)
    write_manifest(folder, manifest)


def _same(recorded: dict[str, Any], entry: dict[str, Any]) -> bool:
    return bool(recorded["cases"]) and (
        set(_names(recorded, "inputs")) == set(_names(entry, "inputs"))
        and set(_names(recorded, "outputs")) >= set(_names(entry, "outputs"))
    )


def _names(entry: dict[str, Any], side: str) -> list[str]:
    return [v["value"] for v in entry[side] if "value" in v]


def _reordered(
    case: dict[str, Any], recorded: dict[str, Any], entry: dict[str, Any], folder: Path, index: int
) -> dict[str, Any]:
    """The case with inputs and outputs in the port's order, in a file of the port's own."""
    order = [_names(recorded, "outputs").index(name) for name in _names(entry, "outputs")]
    places = {v["value"]: i for i, v in enumerate(recorded["inputs"]) if "value" in v}
    stored_in = read_arrays(folder / case["file"], "in")
    stored_out = read_arrays(folder / case["file"], "out")
    inputs = [stored_in.get(places[v["value"]]) if "value" in v else None for v in entry["inputs"]]
    name = f"p{index}{case['file']}"
    write_arrays(folder / name, inputs, [stored_out[i] for i in order])
    return {
        **case, "file": name,
        "torch_error": [case["torch_error"][i] for i in order],
        "torch_dtype": [case["torch_dtype"][i] for i in order],
    }  # fmt: skip


class Values:
    """Where the natural value of each graph value is kept in a recording."""

    def __init__(self, recorded: list[dict[str, Any]]) -> None:
        self._inputs: dict[str, tuple[str, int]] = {}
        self._outputs: dict[str, tuple[dict[str, Any], int]] = {}
        for record in recorded:
            case = next((c for c in record["cases"] if c["label"] == "natural"), None)
            if case is not None:
                for place, given in enumerate(record["inputs"]):
                    self._inputs.setdefault(given["value"], (case["file"], place))
                for place, made in enumerate(record["outputs"]):
                    self._outputs.setdefault(made["value"], (case, place))

    def compose(self, entry: dict[str, Any], folder: Path, index: int) -> dict[str, Any]:
        """A natural case from values of other entries, or the reason why there is none.

        The output was computed from that other entry's inputs in float64, so it differs from one
        computed from this entry's by torch's float32 error there, which the budget holds already.
        """
        wanted = _names(entry, "inputs")
        missing = [n for n in wanted if n not in self._inputs]
        missing += [n for n in _names(entry, "outputs") if n not in self._outputs]
        if missing:
            return {"reason": f"the recording has no value {', '.join(missing)}"}
        inputs: list[Array | None] = []
        for given in entry["inputs"]:
            found = None
            if "value" in given:
                file, place = self._inputs[given["value"]]
                found = read_arrays(folder / file, "in").get(place)
            inputs.append(found)
        made = [self._outputs[name] for name in _names(entry, "outputs")]
        outputs = [read_arrays(folder / case["file"], "out")[place] for case, place in made]
        name = f"p{index}c0.npz"
        write_arrays(folder / name, inputs, list(outputs))
        return {"cases": [{
            "label": "natural", "dtype": "float32", "file": name,
            "torch_error": [case["torch_error"][place] for case, place in made],
            "n": max(case["n"] for case, _ in made), "kappa": 1.0,
            "depth": max(case["depth"] for case, _ in made),
            "torch_dtype": [case["torch_dtype"][place] for case, place in made],
        }]}  # fmt: skip


def _as_deployed(manifest: dict[str, Any], dtype: str) -> None:
    """A recording of other weights than the port's: judged at the coarser precision."""
    coarse = dtype if dtype != "float32" else manifest["reference"]["dtype"]
    for run in [*manifest["runs"], *(c for e in manifest["entries"] for c in e["cases"])]:
        run["dtype"] = coarse
    manifest["notes"].append(
        f"the recording is of {manifest['reference']['dtype']} weights and the port's are {dtype}: "
        "judged by the coarser rounding; record with --dtype for a sharper one"
    )
