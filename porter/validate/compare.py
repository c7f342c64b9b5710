"""Both sides' data on disk to verdicts: modules first, whole outputs with what they teach."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from porter.report import ModuleResult, OutputResult
from porter.validate.budget import CAP, budget, margin, rounding_ratio, verdict
from porter.validate.candidate_results import GRADIENTS, read_results
from porter.validate.data import read_arrays, read_manifest
from porter.validate.metrics import (
    SATURATED,
    Difference,
    broken,
    difference,
    gradient_errors,
    tokens,
)

HALVES = ("float16", "bfloat16")
#: A quarter of float16's range: above it an unlucky input overflows.
HEADROOM = 65504 / 4


@dataclass(frozen=True, slots=True)
class Scored:
    """One case of one module, or one run's output: what was measured, and what is allowed."""

    file: str
    label: str
    dtype: str
    difference: Difference
    margin: float
    torch_error: float
    index: int = 0
    promoted: bool = False
    computed: str = ""


@dataclass(slots=True)
class Comparison:
    """The two folders, and what has been found in them."""

    reference: Path
    candidate: Path
    entries: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    manifest: dict[str, Any] = field(init=False)
    results: dict[str, Any] = field(init=False)
    cases: dict[str, list[Scored]] = field(default_factory=dict)
    uncompared: list[str] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.manifest = read_manifest(self.reference)
        self.results = read_results(self.candidate)

    def modules(self) -> list[ModuleResult]:
        """One result for each path, of its worst case; leafs first, for their rounding ratio."""
        records = self.manifest["entries"]
        for record in records:
            if not record["cases"]:
                reason = record["reason"] or "the reference has no data for it"
                self.uncompared.append(f"module {record['path']}: {reason}")
        order = sorted(records, key=lambda r: not r["leaf"])
        found: dict[str, ModuleResult] = {}
        for leaf in (True, False):
            for record in (r for r in order if bool(r["leaf"]) == leaf and r["cases"]):
                scored = [s for case in record["cases"] for s in self._case(record, case)]
                self.cases.setdefault(record["path"], []).extend(scored)
                result = _worst(record, scored)
                if record["path"] not in found or result.margin > found[record["path"]].margin:
                    found[record["path"]] = result
            self._learn_ratios()
        return [found[p] for p in dict.fromkeys(r["path"] for r in records) if p in found]

    def _case(self, record: dict[str, Any], case: dict[str, Any]) -> list[Scored]:
        leaf = bool(record["leaf"])
        if case["dtype"] == "float16":
            self._check_headroom(record["path"], case)
        return self._score(
            case, self.results["cases"].get(case["file"]),
            kappa=case["kappa"] if leaf else 1.0, depth=1 if leaf else case["depth"],
        )  # fmt: skip

    def _score(
        self, case: dict[str, Any], result: dict[str, Any] | None, kappa: float, depth: int
    ) -> list[Scored]:
        """Compares every output of one file that both sides have written."""
        truth = read_arrays(self.reference / case["file"], "out")
        own: dict[int, Any] = {}
        problem = "the port did not run it" if result is None else result["error"]
        if not problem:
            own = read_arrays(self.candidate / case["file"], "out")
        scored = []
        for index, y in truth.items():
            torch_error = case["torch_error"][index]
            if index in own:
                gap = difference(own[index], y)
            else:
                gap = broken(problem or f"it has {len(own)} outputs, the source {len(truth)}")
            ratio = self.ratios.get(case["dtype"], 1.0) if depth > 1 else 1.0
            allowed = budget(
                torch_error, case["n"], case["dtype"], kappa=kappa, depth=depth, ratio=ratio
            )
            computed = result["dtypes"][index] if result and index < len(result["dtypes"]) else ""
            promoted = (
                case["dtype"] in HALVES
                and computed == "float32"
                and case["torch_dtype"][index] in HALVES
            )
            scored.append(Scored(
                case["file"], case["label"], case["dtype"], gap, margin(gap.rms_rel, allowed),
                torch_error, index, promoted, computed,
            ))  # fmt: skip
        return scored

    def _check_headroom(self, path: str, case: dict[str, Any]) -> None:
        truth = read_arrays(self.reference / case["file"], "out").values()
        peak = max((float(np.nanmax(np.abs(y))) for y in truth if y.size), default=0.0)
        if HEADROOM < peak < SATURATED:
            self.notes.append(f"{path} reaches {peak:.3g}, near float16's largest number, 65504")

    def _learn_ratios(self) -> None:
        """How much worse than torch's the port's correct leafs round, for each dtype."""
        for dtype in ("float32", *HALVES):
            self.ratios[dtype] = rounding_ratio(
                (s.difference.rms_rel, s.torch_error)
                for scored in self.cases.values()
                for s in scored
                if s.dtype == dtype and s.margin <= 1.0 and s.label == "natural"
            )

    def whole(self) -> list[OutputResult]:
        """The model's outputs: natural, at other sizes, in the deployed dtype."""
        found = []
        for run in self.manifest["runs"]:
            suffix = "" if run["label"] == "natural" else f" ({run['label']})"
            result = self.results["runs"].get(run["file"])
            depth = max(run["depth"], 1)
            scored = self._score(run, result, 1.0, depth)
            truth = read_arrays(self.reference / run["file"], "out")
            for s in scored:
                known = s.index < len(self.outputs)
                name = self.outputs[s.index]["name"] if known else f"output {s.index}"
                if not known and not suffix:
                    self.uncompared.append(f"output {s.index} of the source has no counterpart")
                found.append(_output(name + suffix, truth[s.index].shape, s))
            for extra in range(len(truth), len(self.outputs) if not suffix else 0):
                self.uncompared.append(f"output {self.outputs[extra]['name']}: the source has none")
        return found

    def behaviour(self) -> tuple[dict[str, str], dict[str, Any] | None]:
        """Verdict of each behaviour check, and report.json's "compile"."""
        checks: dict[str, str] = {}
        compiled: dict[str, Any] | None = None
        for name, found in self.results["behaviour"].items():
            text = self._behaves(found)
            checks[name] = text
            if name == "compiled":
                equal = text == "pass" or text.startswith("warn")
                compiled = {"equal": equal, "retraces": int(found.get("retraces", 0))}
                if compiled["retraces"] > 0:
                    checks["retraces"] = f"warn: {compiled['retraces']} more than there are shapes"
        training = self.results["training"]
        checks["eval mode"] = (
            f"fail: {', '.join(map(repr, training[:5]))} train" if training else "pass"
        )
        changed = self.results["state_changed"]
        checks["state"] = "fail: a call changes the weights" if changed else "pass"
        return checks, compiled

    def _behaves(self, found: dict[str, Any]) -> str:
        if found["error"]:
            return f"fail: {found['error']}"
        runs = self.manifest["runs"]
        run = next((r for r in runs if r["label"] == "deployed"), runs[0])
        ratio = self.ratios.get(run["dtype"], 1.0)
        worst = 0.0
        for index, gap in enumerate(found["gaps"]):
            own = run["torch_error"][index] if index < len(run["torch_error"]) else 0.0
            allowed = budget(own, run["n"], run["dtype"], depth=run["depth"], ratio=ratio)
            worst = max(worst, margin(gap, allowed))
        word = verdict(worst)
        return "pass" if word == "pass" else f"{word}: {worst:.3g} times the allowed difference"

    def uncovered(self, paths: set[str]) -> list[str]:
        """Modules with weights that no compared entry holds."""
        missing = []
        for module in self.results["modules"]:
            path = module["path"]
            if not (module["parameters"] and module["leaf"]):
                continue
            parts = path.split(".")
            if not any(".".join(parts[:i]) in paths for i in range(1, len(parts) + 1)):
                missing.append(f"module {path} ({module['class']}) has no counterpart")
        return missing

    def gradients(self) -> dict[str, Any] | None:
        """report.json's "gradients": by the worst of all parameters and floating inputs; None where there are none."""
        described, result = self.manifest.get("gradients"), self.results.get("gradients")
        if not described or result is None:
            return None
        if result["error"]:
            return {"passed": False, "worst": "", "error": result["error"]}
        exact = read_arrays(self.reference / GRADIENTS, "out")
        own = read_arrays(self.candidate / GRADIENTS, "out")
        errors = gradient_errors([own[i] for i in exact], list(exact.values()))
        run = self.manifest["runs"][0]
        # Forwards and backwards; what one parameter gathers is summed over batch and positions.
        n = max(run["n"], max(math.prod(given["shape"]) for given in self.manifest["inputs"]))
        margins = [
            margin(gap, budget(known, n, depth=3 * run["depth"], ratio=self.ratios["float32"]))
            for gap, known in zip(errors, described["torch_error"], strict=True)
        ]
        worst = max(range(len(margins)), key=margins.__getitem__)
        return {
            "passed": verdict(margins[worst]) != "fail", "worst": described["rows"][worst]["name"],
            "rms_rel": errors[worst], "margin": margins[worst], "compared": len(margins),
        }  # fmt: skip

    def tokens(self) -> dict[str, float] | None:
        """For logits over a vocabulary: agreement and KL, in the deployed dtype where it ran."""
        runs = self.manifest["runs"]
        run = next((r for r in runs if r["label"] == "deployed"), runs[0])
        integers = any(i["dtype"].startswith(("int", "uint")) for i in self.manifest["inputs"])
        result = self.results["runs"].get(run["file"])
        if not integers or result is None or result["error"]:
            return None
        truth = read_arrays(self.reference / run["file"], "out")
        own = read_arrays(self.candidate / run["file"], "out")
        for index, row in enumerate(self.outputs):
            y, z = truth.get(index), own.get(index)
            if "logits" not in row["name"] or y is None or z is None or y.shape != z.shape:
                continue
            if y.ndim > 1 and y.shape[-1] >= 16 and difference(z, y).rms_rel < CAP:
                return tokens(z, y)
        return None


def _worst(record: dict[str, Any], scored: list[Scored]) -> ModuleResult:
    worst = max(scored, key=lambda s: s.margin)
    hint = worst.difference.problem
    band = verdict(worst.margin)
    if any(s.promoted for s in scored):
        hint = hint or "its output is float32 where the source keeps half precision"
        band = "warn" if band == "pass" else band
    if worst.difference.shared_nan:
        hint = hint or f"{worst.difference.shared_nan} NaN on both sides"
    if band == "fail" and not hint and worst.label != "natural":
        hint = f"on inputs {worst.label}"
    largest = max(s.difference.max_abs for s in scored)
    return ModuleResult(record["path"], str(record["class"]), largest, worst.margin, band, hint)


def _output(name: str, shape: tuple[int, ...], s: Scored) -> OutputResult:
    d = s.difference
    hint = d.problem or (f"{d.shared_nan} NaN on both sides" if d.shared_nan else "")
    band = verdict(s.margin)
    if s.promoted and band == "pass":
        band, hint = "warn", hint or "float32 where the source keeps half precision"
    return OutputResult(
        name, tuple(shape), s.computed or s.dtype, d.max_abs, d.max_rel, d.rms_rel, d.cosine,
        s.margin, band, hint,
    )  # fmt: skip
