"""The candidate side: the port in MLX in a process of its own, never torch.

`python -m porter.validate.candidate job.json` runs the port on the reference's data, writes what
comes out beside a results.json, says so, and then answers requests (timings, a module's weights).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from porter import loading
from porter.errors import PorterError
from porter.validate import bugs, checks
from porter.validate.candidate_gradients import gradients
from porter.validate.candidate_results import GRADIENTS, RESULTS
from porter.validate.data import (
    Job,
    permuted,
    read_arrays,
    read_manifest,
    restored,
    write_arrays,
)
from porter.validate.metrics import Array
from porter.validate.mlx_timing import Timer
from porter.validate.protocol import Channel, Message, Progress, run_child


class Candidate:
    """The loaded port and what it is compared on."""

    def __init__(self, job: Job, progress: Progress = lambda _: None) -> None:
        self._job, self._progress = job, progress
        self._folder, self._reference = Path(job.folder), Path(job.reference)
        self._manifest = read_manifest(self._reference)
        progress("port: loading")
        self._model = loading.load(job.directory)
        self._names = [given["name"] for given in self._manifest["inputs"]]
        self._timer: Timer | None = None
        self._widened = False

    def prepare(self) -> None:
        """Runs everything: behaviour and deployed dtype first, then float32 for the semantics."""
        modules = dict(self._model.named_modules())
        results: dict[str, Any] = {
            "mlx": version("mlx"),
            "device": str(mx.default_device()),
            "modules": _inventory(modules),
            "training": sorted(path for path, m in modules.items() if m.training),
        }
        half = self._job.dtype != "float32"
        results["runs"], results["cases"] = {}, {}
        self._run_all(results, half)
        natural = self._manifest["runs"][0]
        results["behaviour"], results["state_changed"] = checks.behaviour(
            self._model,
            self._inputs(natural),
            self._other(),
            self._batch_axes(),
            self._job.directory,
        )
        if self._manifest.get("gradients"):
            self._progress("port: gradients")
            results["gradients"] = self._attempt(GRADIENTS, self._gradients)
        if half:
            self._widen()
            self._run_all(results, half=False)
        results["memory"] = {"mlx_peak_bytes": mx.get_peak_memory()}
        (self._folder / RESULTS).write_text(json.dumps(results), encoding="utf-8")

    def ask(self, command: Message) -> Message:
        if command["do"] == "bugs":
            paths = [r["path"] for r in self._manifest["entries"] if r["cases"]]
            return {"bugs": bugs.plantable(dict(self._model.named_modules()), paths)}
        if command["do"] == "plant":
            return self._planted(command)
        if command["do"] == "weights":
            return self._weights(str(command["path"]), Path(command["file"]))
        if self._timer is None:
            if self._widened:
                self._model = loading.load(self._job.directory)
            self._timer = Timer(self._model, self._inputs(self._manifest["runs"][0]))
        return self._timer.measure(str(command["mode"]), int(command["count"]))

    def close(self) -> None:
        self._timer = None

    def _widen(self) -> None:
        self._model.set_dtype(mx.float32)
        self._widened = True

    def _run_all(self, results: dict[str, Any], half: bool) -> None:
        for run in self._manifest["runs"]:
            if (run["dtype"] != "float32") == half:
                self._progress(f"port: {run['label']}")
                results["runs"][run["file"]] = self._attempt(run["file"], self._run, run)
        modules = dict(self._model.named_modules())
        entries = self._job.entries
        for record in self._manifest["entries"]:
            entry = entries[record["index"]]
            for case in record["cases"]:
                if (case["dtype"] != "float32") == half:
                    self._progress(f"port {record['index'] + 1}/{len(entries)} {entry['path']}")
                    results["cases"][case["file"]] = self._attempt(
                        case["file"], self._module_case, modules, entry, case
                    )

    def _attempt(self, file: str, call: Any, *args: Any) -> dict[str, Any]:
        """Runs one case; whatever the port raises is its result."""
        try:
            outputs, dtypes = call(*args)
        except PorterError:
            raise  # the reference's data, not the port
        except Exception as reason:  # noqa: BLE001 -- emitted or edited code may raise anything
            return {"error": f"{type(reason).__name__}: {reason}"[:300], "dtypes": []}
        write_arrays(self._folder / file, None, outputs)
        return {"error": "", "dtypes": dtypes}

    def _run(self, run: dict[str, Any]) -> tuple[list[Array | None], list[str]]:
        return _finish(self._model(*self._inputs(run)), self._job.outputs)

    def _module_case(
        self, modules: dict[str, nn.Module], entry: dict[str, Any], case: dict[str, Any]
    ) -> tuple[list[Array | None], list[str]]:
        stored = read_arrays(self._reference / case["file"], "in")
        dtype = getattr(mx, case["dtype"])
        args = []
        for index, given in enumerate(entry["inputs"]):
            if "const" in given:
                args.append(given["const"])
            else:
                args.append(_deployed(permuted(stored[index], given.get("permute")), dtype))
        return _finish(find(modules, entry["path"])(*args), entry["outputs"])

    def _inputs(self, run: dict[str, Any]) -> list[mx.array]:
        """The port's inputs in its order: by name where the names agree, else by position."""
        stored = read_arrays(self._reference / run["file"], "in")
        half = run["label"] == "deployed" or not self._widened
        dtype = getattr(mx, self._job.dtype if half else "float32")
        args = []
        for position, given in enumerate(self._job.inputs):
            named = given["name"] in self._names
            index = self._names.index(given["name"]) if named else position
            args.append(_deployed(permuted(stored[index], given.get("permute")), dtype))
        return args

    def _gradients(self) -> tuple[list[Array | None], list[str]]:
        """In the manifest's order; zero where the port does not depend on a tensor."""
        described = self._manifest["gradients"]
        rows = described["rows"]
        exact = read_arrays(self._reference / GRADIENTS, "out")
        values = read_arrays(self._reference / GRADIENTS, "in")
        wanted = {row["key"]: exact[i].shape for i, row in enumerate(rows) if "key" in row}
        twins = {
            key: owner
            for group in self._manifest["ties"]
            for owner in [next((k for k in group if k in wanted), None)]
            if owner is not None
            for key in group
        }
        by_key, by_input = gradients(
            self._model, self._inputs(self._manifest["runs"][0]), self._job.inputs, self._job.outputs,
            Path(self._job.directory), wanted, dict(zip(described["values"], values.values(), strict=True)), twins,
        )  # fmt: skip
        found: list[Array | None] = []
        for index, row in enumerate(rows):
            own = by_key.get(row["key"]) if "key" in row else by_input.get(row["input"])
            found.append(np.zeros_like(exact[index], np.float32) if own is None else own)
        return found, []

    def _other(self) -> list[mx.array] | None:
        """The natural inputs at another batch size, or at another size of any kind."""
        varied = [run for run in self._manifest["runs"] if run["dims"]]
        return self._inputs(varied[0]) if varied else None

    def _batch_axes(self) -> tuple[list[int | None], list[int | None]]:
        def axes(described: list[dict[str, Any]]) -> list[int | None]:
            shapes = [d.get("shape") or [] for d in described]
            return [s.index("batch") if "batch" in s else None for s in shapes]

        return axes(self._job.inputs), axes(self._job.outputs)

    def _planted(self, command: Message) -> Message:
        """Runs what a planted bug bears on into another folder, and takes the bug out again."""
        modules = dict(self._model.named_modules())
        undo = bugs.plant(command["kind"], modules[command["path"]])
        folder, self._folder = self._folder, Path(command["folder"])
        results: dict[str, Any] = {"runs": {}, "cases": {}}
        try:
            for record in self._manifest["entries"]:
                above = command["path"] == record["path"] or command["path"].startswith(
                    record["path"] + "."
                )
                for case in record["cases"] if above else ():
                    if case["dtype"] == "float32":
                        results["cases"][case["file"]] = self._attempt(
                            case["file"], self._module_case, modules,
                            self._job.entries[record["index"]], case,
                        )  # fmt: skip
            (self._folder / RESULTS).write_text(json.dumps(results), encoding="utf-8")
        finally:
            undo()
            self._folder = folder
        return {"planted": True}

    def _weights(self, path: str, file: Path) -> Message:
        """A module's parameters to `file`, and its scalar attributes, for the localiser."""
        modules = dict(self._model.named_modules())
        if path not in modules:
            return {"unavailable": f"the port has no module {path}"}
        module = modules[path]
        arrays: dict[str, Any] = {
            name: np.array(value.astype(mx.float32))
            for name, value in tree_flatten(module.parameters())
            if isinstance(value, mx.array) and mx.issubdtype(value.dtype, mx.floating)
        }
        np.savez(file, **arrays)
        scalars = (bool, int, float, str)
        values = {**vars(module), **module}
        named = {k.lstrip("_"): v for k, v in values.items() if isinstance(v, scalars)}
        return {"attributes": named}


def find(modules: dict[str, nn.Module], path: str) -> nn.Module:
    """The module at a path of the port."""
    if path in modules:
        return modules[path]
    raise KeyError(f"the port has no module {path}")


def _inventory(modules: dict[str, nn.Module]) -> list[dict[str, Any]]:
    """Each module with its own parameters, and whether it has children."""
    found = []
    for path, module in modules.items():
        own = any(isinstance(v, mx.array) for v in module.parameters().values())
        children = any(p != path and p.startswith(path + ".") for p in modules)
        found.append({
            "path": path, "class": type(module).__name__,
            "parameters": own, "leaf": bool(path) and not children,
        })  # fmt: skip
    return found


def _deployed(array: Array, dtype: mx.Dtype) -> mx.array:
    if array.dtype.kind == "f":
        return mx.array(np.asarray(array, dtype=np.float32, order="C")).astype(dtype)
    if array.dtype == np.int64:  # MLX indexes with either; 64 bits where 32 don't suffice
        small = array.size == 0 or np.abs(array).max() < 2**31
        return mx.array(array.astype(np.int32) if small else array)
    return mx.array(np.asarray(array, order="C"))


def leaves(result: Any) -> Iterator[mx.array]:
    """What a port returns, one array after the other: an array, tuple, dict or dataclass."""
    if isinstance(result, mx.array):
        yield result
    elif isinstance(result, dict):
        for value in result.values():
            yield from leaves(value)
    elif isinstance(result, (list, tuple)):
        for value in result:
            yield from leaves(value)
    elif is_dataclass(result):
        for field in fields(result):
            yield from leaves(getattr(result, field.name))


def _finish(result: Any, described: list[dict[str, Any]]) -> tuple[list[Array | None], list[str]]:
    """Evaluates and brings the outputs to the source's layout."""
    outputs = list(leaves(result))
    mx.eval(outputs)
    arrays: list[Array | None] = []
    for index, value in enumerate(outputs):
        permute = described[index].get("permute") if index < len(described) else None
        narrow = value.dtype in (mx.float16, mx.bfloat16)
        array = np.array(value.astype(mx.float32) if narrow else value)
        arrays.append(np.asarray(restored(array, permute), order="C"))
    return arrays, [str(value.dtype).rpartition(".")[2] for value in outputs]


def main(channel: Channel) -> None:
    candidate = Candidate(Job.read(sys.argv[1]), channel.progress)
    candidate.prepare()
    channel.send({"ready": True})
    channel.serve(candidate.ask)


if __name__ == "__main__":
    run_child(main)
