"""The reference's data for one module at a time: fed with given values, in float32 and float64."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from porter.validate.conditioning import Conditioning
from porter.validate.data import write_arrays
from porter.validate.graph import Graph, UncomparableError, cast, float64, op_name
from porter.validate.metrics import Array, error

#: Small amplitudes show a wrong eps, large ones an overflow or a wrong activation.
PROBES = (1e-3, 1e-2, 8.0)
#: Tensors above this many elements are kept for the first row of their batch only.
ROW_LIMIT = 4 * 2**20


@dataclass(slots=True)
class Entries:
    """Computes each entry as soon as the run of the graph has passed its outputs.

    `values` holds the natural float32 value of what is still awaited. `records` grows by one
    manifest entry for each entry, in the order of `entries`.
    """

    graph: Graph
    entries: list[dict[str, Any]]
    folder: Path
    dtype: torch.dtype
    probes: bool = True
    progress: Callable[[str], None] = lambda _: None
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    scalars: dict[str, Any] = field(default_factory=dict)
    awaited: dict[int, set[str]] = field(default_factory=dict)
    readers: Counter[str] = field(default_factory=Counter)
    probed: set[Any] = field(default_factory=set)

    def start(self) -> Counter[str]:
        """Registers what each entry waits for; returns the values to be `seen`."""
        wanted: Counter[str] = Counter()
        for index, entry in enumerate(self.entries):
            names = {*input_values(entry), *output_values(entry)}
            missing = sorted(names - self.graph.nodes.keys())
            if missing:
                self._record(index, f"the exported graph has no value {', '.join(missing)}")
                continue
            self.awaited[index] = names
            wanted.update(names)
            self.readers.update(set(input_values(entry)))
        return wanted

    def seen(self, name: str, value: Any) -> None:
        if not isinstance(value, torch.Tensor):
            self.scalars[name] = value
        if self.readers[name]:
            self.values[name] = value
        for index, names in list(self.awaited.items()):
            names.discard(name)
            if not names:
                del self.awaited[index]
                self._compute(index)

    def _compute(self, index: int) -> None:
        entry = self.entries[index]
        self.progress(f"reference {len(self.records) + 1}/{len(self.entries)} {entry['path']}")
        given = {name: self.values[name] for name in input_values(entry)}
        try:
            self._record(index, "", self._cases(index, entry, given))
        except UncomparableError as reason:
            self._record(index, str(reason))
        for name in given:
            self.readers[name] -= 1
            if self.readers[name] <= 0:
                self.values.pop(name, None)

    def give_up(self, index: int, reason: str) -> None:
        """Records that an entry can't be compared, and why."""
        self.awaited.pop(index, None)
        self._record(index, reason)

    def _record(self, index: int, reason: str, cases: list[dict[str, Any]] | None = None) -> None:
        keys = ("path", "class", "leaf", "source", "inputs", "outputs")
        kept = {k: self.entries[index].get(k) for k in keys}
        self.records[index] = {**kept, "index": index, "cases": cases or [], "reason": reason}

    def _cases(
        self, index: int, entry: dict[str, Any], given: dict[str, Any]
    ) -> list[dict[str, Any]]:
        outputs = output_values(entry)
        nodes = self.graph.cut(given, outputs)
        plan: list[tuple[str, float, torch.dtype]] = [("natural", 1.0, torch.float32)]
        floating = [
            v for v in given.values() if isinstance(v, torch.Tensor) and v.is_floating_point()
        ]
        probed = entry.get("leaf") or entry.get("probed")
        if probed and self.probes and floating and self._is_new(entry, nodes, given):
            plan += [(f"x{scale:g}", scale, torch.float32) for scale in PROBES]
        if self.dtype != torch.float32:
            plan.append(("natural", 1.0, self.dtype))
        cases = []
        for number, (label, scale, dtype) in enumerate(plan):
            file = f"e{index}c{number}.npz"
            inputs = {k: _scaled(v, scale, dtype) for k, v in given.items()}
            meter = Conditioning()
            with float64():
                wide = self.graph.run_cut(
                    nodes, inputs, self.scalars, outputs, torch.float64, meter.observe
                )
            try:
                own = self.graph.run_cut(nodes, inputs, self.scalars, outputs, dtype)
            except (RuntimeError, NotImplementedError):
                if dtype == torch.float32:
                    raise
                continue  # torch has no such op at this precision, so there is no budget for it
            arrays, truth = _first_row(entry, inputs, wide)
            own_rows = [_like(array(y, wide=True), t) for y, t in zip(own, truth, strict=True)]
            write_arrays(self.folder / file, arrays, list(truth))
            errors = [error(y, t) for y, t in zip(own_rows, truth, strict=True)]
            cases.append({
                "label": label, "dtype": str(dtype).rpartition(".")[2], "file": file,
                "torch_error": errors, "n": meter.n, "kappa": meter.kappa, "depth": meter.depth,
                "torch_dtype": [str(y.dtype).rpartition(".")[2] for y in own],
            })  # fmt: skip
        return cases

    def _is_new(self, entry: dict[str, Any], nodes: list[Any], given: dict[str, Any]) -> bool:
        """One representative of equal leafs is probed, and every norm: their eps may differ."""
        cls = str(entry.get("class"))
        if "norm" in cls.lower():
            return True
        work = tuple(
            (
                op_name(n),
                str([a for a in n.args if not isinstance(a, torch.fx.Node)]),
                str(n.kwargs),
            )
            for n in nodes
            if n.op == "call_function"
        )
        signature = (cls, work, tuple(str(getattr(v, "shape", v)) for v in given.values()))
        if signature in self.probed:
            return False
        self.probed.add(signature)
        return True


def input_values(entry: dict[str, Any]) -> list[str]:
    return [i["value"] for i in entry["inputs"] if "value" in i]


def output_values(entry: dict[str, Any]) -> list[str]:
    return [o["value"] for o in entry["outputs"]]


def array(value: Any, wide: bool = False) -> Array:
    """A tensor or number as numpy: floats in float32, or float64 if `wide`."""
    tensor = value.detach().cpu() if isinstance(value, torch.Tensor) else torch.tensor(value)
    tensor = cast(tensor, torch.float64 if wide else torch.float32)
    return np.asarray(tensor.resolve_conj().resolve_neg().numpy(), order="C")


def _scaled(value: Any, scale: float, dtype: torch.dtype) -> Any:
    """Inputs are rounded to the dtype under test, then held in float32."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return (value * scale).to(dtype).float()
    return value


def _first_row(
    entry: dict[str, Any], given: dict[str, Any], outputs: list[torch.Tensor]
) -> tuple[list[Array | None], list[Array]]:
    arrays = [array(given[i["value"]]) if "value" in i else None for i in entry["inputs"]]
    truth = [array(y, wide=True) for y in outputs]
    tensors = [x for x in [*arrays, *truth] if x is not None and x.ndim]
    batch = tensors[0].shape[0] if tensors else 1
    alike = all(x.shape[0] in (1, batch) for x in tensors)
    if batch > 1 and alike and max(x.size for x in tensors) > ROW_LIMIT:
        arrays = [x[:1] if x is not None and x.ndim else x for x in arrays]
        truth = [y[:1] if y.ndim else y for y in truth]
    return arrays, truth


def _like(y: Array, truth: Array) -> Array:
    return y[: truth.shape[0]] if y.ndim and y.shape != truth.shape else y
