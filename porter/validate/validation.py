"""`porter.validate`: both sides run, are compared, and the verdict is written into DIR."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from porter.errors import InputError, UsageError
from porter.report import ModuleResult, Report
from porter.validate import deployed, environment, localise, recording
from porter.validate import speed as timing
from porter.validate.compare import Comparison
from porter.validate.data import Job, permuted, read_arrays
from porter.validate.deployed import Deployed
from porter.validate.protocol import Process, Progress, Side

if TYPE_CHECKING:
    from porter.sources import Source

SPEED_SECONDS = 10.0
#: An output in the warning band is fine where the modules say so; without modules it is not.
STRICT = 1.0


def validate(
    directory: str | Path,
    reference: str | Path | None = None,
    source: str | Source | None = None,
    *,
    options: dict[str, Any] | None = None,
    speed: bool = True,
    probes: bool = True,
    write: bool = True,
    progress: Progress = lambda _: None,
) -> Report:
    """Compares DIR with its source, or with the recording `reference`; numerics and speed.

    `source` and `options` stand in for porter.json's; a Source at hand is run in this process.
    With `write`, DIR gets report.json and report.html, and porter.json the verdict. Raises
    InputError where DIR, the recording or the source can't be read; that the port is wrong is no
    exception but the report's verdict.
    """
    port = deployed.read(directory)
    if reference is not None and source is not None:
        raise UsageError("Give a recording or a source to compare with, not both.")
    folder = Path(tempfile.mkdtemp(prefix="porter-validate-"))
    sides: dict[str, Side] = {}
    try:
        for name in ("reference", "candidate"):
            (folder / name).mkdir()
        job = job_for(port, folder, source, options, probes)
        if reference is not None:
            recording.adopt(Path(reference), port, folder / "reference")
        else:
            sides["reference"] = start_reference(port, job, folder, source, progress)
        sides["candidate"] = start_candidate(job, folder, progress)
        report = _compare(port, job, folder, sides["candidate"])
        if speed:
            report.speed = _speed(sides, report, progress)
    finally:
        for side in sides.values():
            side.close()
        shutil.rmtree(folder, ignore_errors=True)
    if write:
        save(report, port)
    return report


def save(report: Report, port: Deployed) -> None:
    """report.json, report.html, and the verdict in porter.json."""
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n"
    deployed.write_atomically(port.directory / "report.json", text)
    if importlib.util.find_spec("jinja2") is not None:  # the extra "report"
        from porter.report import html

        deployed.write_atomically(port.directory / "report.html", html.render(report))
    facts = {**port.porter, "proof": {**port.porter.get("proof", {}), "verdict": report.verdict}}
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    deployed.write_atomically(port.directory / "porter.json", text)


def job_for(
    port: Deployed,
    folder: Path,
    source: str | Source | None,
    options: dict[str, Any] | None,
    probes: bool,
) -> Job:
    spec = source if isinstance(source, str) else getattr(source, "spec", port.spec)
    chosen = port.options if options is None else options
    if is_dataclass(chosen) and not isinstance(chosen, type):
        chosen = asdict(chosen)
    return Job(
        folder=str(folder / "reference"), reference=str(folder / "reference"), spec=str(spec),
        options=chosen, directory=str(port.directory.resolve()), dtype=port.dtype,
        inputs=port.inputs, outputs=port.outputs, entries=port.entries, probes=probes,
    )  # fmt: skip


def start_reference(
    port: Deployed, job: Job, folder: Path, source: str | Source | None, progress: Progress
) -> Side:
    if port.quantized:
        job = replace(job, dequantized=str(folder / "dequantized.npz"))
        process = Process(
            "porter.validate.dequantize", job.write(folder / "dequantize.json"),
            folder / "dequantize.log", environment.candidate(), progress,
        )  # fmt: skip
        process.read()
        process.close()
    if source is not None and not isinstance(source, str):
        from porter.validate import reference

        return reference.run(source, job, progress)
    if not job.spec:
        raise InputError(
            f"{port.directory}/porter.json names no source; give one with --source, "
            "or a recording with --reference."
        )
    process = Process(
        "porter.validate.reference", job.write(folder / "reference.json"),
        folder / "reference.log", environment.reference(), progress,
    )  # fmt: skip
    process.read()
    return process


def start_candidate(job: Job, folder: Path, progress: Progress) -> Process:
    own = replace(job, folder=str(folder / "candidate"))
    process = Process(
        "porter.validate.candidate", own.write(folder / "candidate.json"),
        folder / "candidate.log", environment.candidate(), progress,
    )  # fmt: skip
    process.read()
    return process


def _compare(port: Deployed, job: Job, folder: Path, candidate: Side) -> Report:
    comparison = Comparison(folder / "reference", folder / "candidate", job.entries, job.outputs)
    modules = comparison.modules()
    outputs = comparison.whole()
    checks, compiled = comparison.behaviour()
    uncompared = comparison.uncompared
    uncompared += comparison.uncovered({m.path for m in modules})
    uncompared += _unconsumed(port, comparison.manifest)
    uncompared += comparison.manifest.get("problems", [])
    leafs = {r["path"] for r in comparison.manifest["entries"] if r["leaf"]}
    guilty, modules = localise.culprits(modules, leafs)
    modules = [
        _explained(m, comparison, candidate, folder) if m.path in guilty else m for m in modules
    ]
    if modules and not guilty and any(o.verdict == "fail" for o in outputs):
        guilty = [localise.MODEL]
        outputs = [
            replace(o, hint=o.hint or localise.WIRING) if o.verdict == "fail" else o
            for o in outputs
        ]
    report = Report(
        verdict="incomplete", source=comparison.manifest["source"],
        reference=comparison.manifest["reference"], outputs=outputs, modules=modules,
        culprits=guilty, uncompared=uncompared, tokens=comparison.tokens(),
        gradients=comparison.gradients(), compile=compiled,
        checks=checks, notes=[*comparison.manifest["notes"], *comparison.notes],
        memory=dict(comparison.results.get("memory", {})),
    )  # fmt: skip
    report.verdict = verdict(report)
    return report


def verdict(report: Report) -> str:
    """ "fail" where anything differs or nothing was compared, "incomplete" where anything is left."""
    bands = [m.verdict for m in report.modules] + [o.verdict for o in report.outputs]
    doubtful = not report.modules and any(not o.margin <= STRICT for o in report.outputs)
    misbehaves = any(found.startswith("fail") for found in report.checks.values())
    if "fail" in bands or doubtful or misbehaves or not report.outputs:
        return "fail"
    return "incomplete" if report.uncompared else "pass"


def _unconsumed(port: Deployed, manifest: dict[str, Any]) -> list[str]:
    """Source tensors that the computation reads and no recipe does; a tied twin counts."""
    consumed = deployed.consumed(port.directory)
    if consumed is None:
        return []
    twins = {key: set(group) for group in manifest["ties"] for key in group}
    parts = {name: set(keys) for name, keys in manifest.get("parts", {}).items()}
    return [
        f"tensor {key} is used by the source and by no recipe"
        for key in sorted(set(manifest["tensors"].values()))
        if not ({key} | twins.get(key, set())) & consumed
        and not (key in parts and parts[key] <= consumed)
    ]


def _explained(
    module: ModuleResult, comparison: Comparison, candidate: Side, folder: Path
) -> ModuleResult:
    """A guilty leaf with the known mistake that explains it, if one does."""
    record = next(r for r in comparison.manifest["entries"] if r["path"] == module.path)
    if not record["leaf"] or "shape" in module.hint:
        return module
    file = folder / "guilty.npz"
    answer = candidate.ask({"do": "weights", "path": module.path, "file": str(file)})
    if "attributes" not in answer:
        return module
    with np.load(file, allow_pickle=False) as stored:
        weights = {name: stored[name] for name in stored.files}
    entry = comparison.entries[record["index"]]
    singles = [s for s in comparison.cases[module.path] if s.dtype == "float32"]
    worst = max(singles or comparison.cases[module.path], key=lambda s: s.margin)
    inputs = read_arrays(folder / "reference" / worst.file, "in")
    truth = read_arrays(folder / "reference" / worst.file, "out")
    written = folder / "candidate" / worst.file
    own = read_arrays(written, "out") if written.exists() else {}
    if 0 not in inputs or 0 not in truth:
        return module
    layout = entry["outputs"][0].get("permute")
    found = localise.hint(
        str(entry.get("class", "")),
        permuted(inputs[0], entry["inputs"][0].get("permute")),
        permuted(truth[0], layout),
        permuted(own[0], layout) if 0 in own and own[0].shape == truth[0].shape else None,
        weights,
        dict(answer["attributes"]),
    )
    return replace(module, hint=found) if found else module


def _speed(sides: dict[str, Side], report: Report, progress: Progress) -> dict[str, Any] | None:
    found = timing.measure(sides, SPEED_SECONDS, progress=progress)
    recorded = report.reference.get("timings")
    if found is not None and recorded and "reference" not in sides:
        machine = f"{report.reference.get('device')} ({report.reference.get('host')})"
        found["runs"] += [{**run, "machine": machine} for run in recorded]
        found["notes"].append(f"the reference's times are from {machine}, the port's from here")
    return found
