"""The reference side: torch in a process of its own, never MLX.

`python -m porter.validate.reference job.json` writes the reference's folder, says so, and then
answers requests for timings until its stdin ends. `run` does the same in this process.
"""

from __future__ import annotations

import copy
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from porter.errors import InputError
from porter.frontends.bounded_sizes import failing_guard
from porter.frontends.export import export_program
from porter.frontends.functionalize import functionalized
from porter.frontends.input_dims import named_dims
from porter.validate import dequantized, reference_gradients, variation
from porter.validate.conditioning import Conditioning
from porter.validate.constants import kept_buffers
from porter.validate.data import Job, write_arrays, write_manifest
from porter.validate.entries import Entries, array
from porter.validate.graph import Graph, cast, float64
from porter.validate.metrics import error
from porter.validate.protocol import Channel, Message, Progress, run_child
from porter.validate.scopes import scopes
from porter.validate.torch_timing import Timer
from porter.validate.variation import carries_state

if TYPE_CHECKING:
    from porter.sources import Source

#: The exported graph may differ from the eager model by this much: the order of its sums.
GRAPH_TOLERANCE = 1e-4


class Reference:
    """Answers timing requests once its data is written."""

    def __init__(self, source: Source, job: Job, progress: Progress = lambda _: None) -> None:
        self._job, self._progress = job, progress
        self._folder = Path(job.folder)
        self._dtype = getattr(torch, job.dtype)
        self._source = source
        self._notes: list[str] = []
        self._problems: list[str] = []
        self._kept: set[str] = set()
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        progress("reference: loading the source")
        self._module = self._deployed(source.materialize())
        self._timer: Timer | None = None

    def prepare(self) -> None:
        """Writes the folder: runs, entries, manifest."""
        source, job = self._source, self._job
        self._program, notes = export_program(source)
        self._notes += notes
        graph = Graph.bind(functionalized(self._program), self._module)
        inputs = graph.feed(*self._inputs(torch.float32))
        names = [k for k, v in inputs.items() if isinstance(v, torch.Tensor)]
        entries = scopes(graph) if job.scopes else job.entries
        work = Entries(graph, entries, self._folder, self._dtype, job.probes, self._progress)
        meter = Conditioning()
        outputs = graph.run(inputs, torch.float32, work.start(), work.seen, meter.observe)
        for index in list(work.awaited):
            work.give_up(index, "the graph's run did not reach its values")
        runs = self._runs(list(inputs), outputs, meter)
        gradients = self._gradients(names)
        keys = source.keys
        # What no checkpoint holds (constants, buffers that are not saved) no recipe has to read.
        saved = self._module.state_dict().keys()
        tensors = [name for name in graph.used_tensors() if name in saved]
        write_manifest(self._folder, {
            "source": source.spec, "name": source.name,
            "reference": self.machine(),
            "inputs": [{"name": k, "dtype": str(inputs[k].dtype).rpartition(".")[2],
                        "shape": list(inputs[k].shape)} for k in names],
            "runs": runs,
            "entries": [work.records[i] for i in sorted(work.records)],
            "tensors": {name: keys.get(name, name) for name in tensors},
            "parts": {name: list(parts) for name, parts in source.parts.items()},
            "ties": _ties(self._module, keys), "gradients": gradients,
            "notes": self._notes, "problems": self._problems,
        })  # fmt: skip

    def machine(self) -> dict[str, Any]:
        device = self._job.device
        cuda = device.startswith("cuda")
        return {
            "backend": "torch-cuda" if cuda else "torch-cpu",
            "dtype": self._job.dtype,
            "device": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
            "host": platform.node(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda if cuda else None,
            "threads": torch.get_num_threads(),
            "tf32": torch.backends.cuda.matmul.allow_tf32,
            "cudnn_tf32": torch.backends.cudnn.allow_tf32,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
        }  # fmt: skip

    def ask(self, command: Message) -> Message:
        """{"do": "time", "mode", "count"} -> {"seconds": [...]}, or {"unavailable": why}."""
        if self._timer is None:
            module = self._half(self._dtype) if self._dtype != torch.float32 else self._module
            args, kwargs = self._inputs(self._dtype)
            self._timer = Timer(module, args, kwargs, self._job.device)
        return self._timer.measure(str(command["mode"]), int(command["count"]))

    def close(self) -> None:
        self._timer = None

    def _deployed(self, module: torch.nn.Module) -> torch.nn.Module:
        """float32, its stored tensors rounded to the deployed dtype or dequantized."""
        if self._source.kind == "module":
            module = copy.deepcopy(module)
        module = module.float().requires_grad_(False)
        state = dict(module.state_dict())
        if self._dtype != torch.float32:
            self._kept = kept_buffers(module, self._job.directory, self._dtype)
            buffers = dict(module.named_buffers())
            for tensor in [*state.values(), *(buffers[name] for name in self._kept)]:
                if tensor.is_floating_point():
                    tensor.copy_(tensor.to(self._dtype))
        if self._job.dequantized:
            left = dequantized.put(state, self._source.keys, self._job)
            self._problems += [
                f"{path}: its quantized weights have no counterpart" for path in left
            ]
        return module

    def _half(self, dtype: torch.dtype) -> torch.nn.Module:
        """A copy whose tensors are `dtype` where the port stores them; other buffers stay float32."""
        module = copy.deepcopy(self._module)
        stored = {*module.state_dict(), *self._kept}
        for owner_name, owner in module.named_modules():
            prefix = owner_name + "." if owner_name else ""
            for table in (owner._parameters, owner._buffers):
                for name, tensor in table.items():
                    if tensor is not None and prefix + name in stored:
                        tensor.data = cast(tensor.data, dtype)
        return module

    def _inputs(self, dtype: torch.dtype, sizes: dict[str, int] | None = None) -> tuple[Any, Any]:
        args, kwargs = self._source.args, self._source.kwargs
        if sizes:
            args, kwargs = variation.resized(args, kwargs, self._axes, sizes)
        rounded: tuple[Any, Any] = pytree.tree_map(
            lambda v: cast(cast(v, self._dtype), dtype), (args, kwargs)
        )
        return rounded

    def _call(self, module: torch.nn.Module, inputs: tuple[Any, Any]) -> list[torch.Tensor]:
        args, kwargs = pytree.tree_map(
            lambda v: v.clone() if isinstance(v, torch.Tensor) else v, inputs
        )
        with torch.no_grad():
            leaves = pytree.tree_leaves(module(*args, **kwargs))
        return [y for y in leaves if isinstance(y, torch.Tensor)]

    def _runs(
        self, names: list[str], graph_outputs: list[Any], meter: Conditioning
    ) -> list[dict[str, Any]]:
        """The whole model, eager: natural, at other sizes, and in the deployed dtype."""
        job = self._job
        if job.scopes:
            self._axes = variation.named_axes(names, self._source.dynamic)
        else:
            self._axes = variation.declared_axes(job.inputs, names)
        self._progress("reference: the whole model in float32")
        plan: list[tuple[str, dict[str, int], torch.dtype, list[Any]]] = []
        natural = self._call(self._module, self._inputs(torch.float32))
        self._check_graph(natural, graph_outputs)
        plan.append(("natural", {}, torch.float32, natural))
        sizes = variation.sizes_of(self._source.args, self._source.kwargs, self._axes)
        for group in ({"batch"}, set(sizes) - {"batch"}):
            found = self._vary({d: sizes[d] for d in sizes if d in group})
            if found is not None:
                plan.append(found)
        if self._dtype != torch.float32:
            plan += self._deployed_run()
        self._progress("reference: the whole model in float64")
        self._module.double()
        runs = []
        for number, (label, dims, dtype, own) in enumerate(plan):
            inputs = self._inputs(torch.float64, dims)
            with float64():
                truth = [array(y, wide=True) for y in self._call(self._module, inputs)]
            arrays = [array(v) for v in pytree.tree_leaves(inputs) if isinstance(v, torch.Tensor)]
            file = f"r{number}.npz"
            write_arrays(self._folder / file, list(arrays), list(truth))
            errors = [error(array(y, wide=True), t) for y, t in zip(own, truth, strict=True)]
            runs.append({
                "label": label, "dims": dims, "dtype": str(dtype).rpartition(".")[2],
                "file": file, "torch_error": errors, "n": meter.n, "depth": meter.depth,
                "torch_dtype": [str(getattr(y, "dtype", "int64")).rpartition(".")[2] for y in own],
            })  # fmt: skip
        self._module.float()
        return runs

    def _gradients(self, names: list[str]) -> dict[str, Any] | None:
        """Of dense float32 weights that the recipes of a port read one by one; None, and why in the notes, elsewhere."""
        job = self._job
        dense = self._dtype == torch.float32 and not job.dequantized and not self._source.parts
        directory = Path(job.directory)
        if not (job.probes and dense and job.directory and (directory / "mapping.toml").is_file()):
            return None
        self._progress("reference: gradients")
        args, kwargs = self._inputs(torch.float32)
        try:
            return reference_gradients.write_gradients(
                self._module, args, kwargs, self._source.keys, names, directory, self._folder
            )
        except Exception as reason:  # noqa: BLE001 -- the author's code, and ops that have no gradient
            self._notes.append(f"torch has no gradients of the source to compare: {reason}"[:200])
            return None

    def _vary(
        self, sizes: dict[str, int]
    ) -> tuple[str, dict[str, int], torch.dtype, list[Any]] | None:
        """One run with every dim in `sizes` at another size, or None if the model takes none that the graph holds for."""
        if not sizes:
            return None
        port = Path(self._job.directory or ".") / "model.py"
        carries = bool(self._job.directory) and port.is_file() and carries_state(port.read_text())
        options = {d: variation.proposals(d, s, carries) for d, s in sizes.items()}
        for attempt in range(max(len(o) for o in options.values())):
            dims = {d: o[min(attempt, len(o) - 1)] for d, o in options.items()}
            try:
                own = self._call(self._module, self._inputs(torch.float32, dims))
            except Exception as reason:  # noqa: BLE001 -- the author's code may raise anything
                self._notes.append(f"the source does not run at {dims}: {reason}"[:200])
                continue
            if guard := failing_guard(self._program, named_dims(self._source), dims):
                self._notes.append(f"not compared at {dims}: the port holds where {guard}")
                continue
            return ", ".join(f"{d}={n}" for d, n in dims.items()), dims, torch.float32, own
        return None

    def _deployed_run(self) -> list[tuple[str, dict[str, int], torch.dtype, list[Any]]]:
        try:
            own = self._call(self._half(self._dtype), self._inputs(self._dtype))
        except RuntimeError as reason:
            self._notes.append(f"torch can't run the source in {self._job.dtype}: {reason}"[:200])
            return []
        return [("deployed", {}, self._dtype, own)]

    def _check_graph(self, eager: list[Any], graph: list[Any]) -> None:
        arrays = [g for g in graph if isinstance(g, torch.Tensor)]
        for index, (x, y) in enumerate(zip(eager, arrays, strict=False)):
            gap = error(array(y, wide=True), array(x, wide=True))
            if not gap <= GRAPH_TOLERANCE:
                self._problems.append(
                    f"output {index} of the exported graph differs from the eager model (E = {gap:.3g})"
                )


def _ties(module: torch.nn.Module, keys: dict[str, str]) -> list[list[str]]:
    """Groups of checkpoint keys that are one tensor in the module."""
    groups: dict[int, list[str]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        groups.setdefault(id(tensor), []).append(keys.get(name, name))
    return [names for names in groups.values() if len(names) > 1]


def run(source: Source, job: Job, progress: Progress = lambda _: None) -> Reference:
    """Writes the reference's folder for a source at hand, in this process."""
    reference = Reference(source, job, progress)
    reference.prepare()
    return reference


def main(channel: Channel) -> None:
    from porter.sources import SourceOptions, resolve

    job = Job.read(sys.argv[1])
    known = SourceOptions.__dataclass_fields__
    options: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in job.options.items() if k in known
    }
    source = resolve(job.spec, SourceOptions(**{**options, "dtype": None}))
    if source.module is None and source.program is None:
        raise InputError(
            f"{job.spec} holds weights and no model to run. Validate against a recording "
            "(porter record) or name the model's code as the source."
        )
    reference = run(source, job, channel.progress)
    channel.send({"ready": True})
    channel.serve(reference.ask)


if __name__ == "__main__":
    run_child(main)
