"""A validator's own score: known bugs are planted in the port one at a time, and looked for."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from porter.validate import deployed, localise, recording, validation
from porter.validate.compare import Comparison
from porter.validate.protocol import Progress, Side

if TYPE_CHECKING:
    from porter.sources import Source


@dataclass(frozen=True, slots=True)
class Planted:
    """One bug: caught if anything failed, located if just its module was named."""

    kind: str
    path: str
    caught: bool
    located: bool
    margin: float


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How many of the planted bugs were caught, and how many located."""

    bugs: tuple[Planted, ...]

    @property
    def caught(self) -> float:
        return sum(b.caught for b in self.bugs) / len(self.bugs) if self.bugs else 0.0

    @property
    def located(self) -> float:
        return sum(b.located for b in self.bugs) / len(self.bugs) if self.bugs else 0.0

    def to_dict(self) -> dict[str, Any]:
        bugs = [asdict(b) for b in self.bugs]
        return {"caught": self.caught, "located": self.located, "bugs": bugs}


def prove_sensitivity(
    directory: str | Path,
    reference: str | Path | None = None,
    source: str | Source | None = None,
    *,
    progress: Progress = lambda _: None,
) -> Sensitivity:
    """Plants each kind of bug once for each class of module, in memory; DIR is not changed."""
    port = deployed.read(directory)
    folder = Path(tempfile.mkdtemp(prefix="porter-sensitivity-"))
    sides: dict[str, Side] = {}
    try:
        for name in ("reference", "candidate", "planted"):
            (folder / name).mkdir()
        job = validation.job_for(port, folder, source, None, probes=True)
        if reference is not None:
            recording.adopt(Path(reference), port, folder / "reference")
        else:
            sides["reference"] = validation.start_reference(port, job, folder, source, progress)
        side = sides["candidate"] = validation.start_candidate(job, folder, progress)
        bugs = side.ask({"do": "bugs"})["bugs"]
        found = []
        for kind, path in bugs:
            progress(f"planting: {kind} in {path}")
            planted = folder / "planted"
            side.ask({"do": "plant", "kind": kind, "path": path, "folder": str(planted)})
            found.append(_look(folder, job.entries, job.outputs, kind, path))
    finally:
        for one in sides.values():
            one.close()
        shutil.rmtree(folder, ignore_errors=True)
    return Sensitivity(tuple(found))


def _look(
    folder: Path, entries: list[dict[str, Any]], outputs: list[dict[str, Any]], kind: str, path: str
) -> Planted:
    """Compares the module and what holds it; the rest of the port has not changed."""
    comparison = Comparison(folder / "reference", folder / "planted", entries, outputs)
    near = [r for r in comparison.manifest["entries"] if touches(path, r["path"])]
    for record in near:  # half precision was not run again
        record["cases"] = [c for c in record["cases"] if c["dtype"] == "float32"]
    comparison.manifest["entries"] = near
    modules = comparison.modules()
    guilty, _ = localise.culprits(modules, {r["path"] for r in near if r["leaf"]})
    own = next((m.margin for m in modules if m.path == path), 0.0)
    return Planted(kind, path, bool(guilty), guilty == [path], own)


def touches(planted: str, path: str) -> bool:
    """Whether a bug in `planted` bears on the module at `path`: the same, or above it."""
    return path == planted or planted.startswith(path + ".")
