"""Before any work: what a model holds, what porter lacks for it, and which machines it fits on. No weight is read."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from porter.errors import Gap
    from porter.sources import Source, SourceOptions

FLOAT_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0}

# Quantized weights carry a float16 scale and bias for each group of 64 (mx.quantize, mode affine).
GROUP_SIZE = 64
QUANTIZED_BYTES = {
    "8-bit": (8 + 32 / GROUP_SIZE) / 8,
    "4-bit": (4 + 32 / GROUP_SIZE) / 8,
}
FLOATS = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
GB = 1e9
MACHINES = "machines.toml"


@dataclass(frozen=True, slots=True)
class Machine:
    """A row of mappings/machines.toml: memory in GB, bandwidth in GB/s, the share of memory a model may take."""

    name: str
    kind: str
    memory: tuple[int, ...]
    bandwidth: float
    usable: float


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether the weights fit a machine. `memory` is the smallest size (GB) that holds them, or None.

    `read_ms` is how long reading every weight once takes: no decoder makes a token faster at batch 1.
    """

    machine: str
    dtype: str
    memory: int | None
    read_ms: float


@dataclass(frozen=True, slots=True)
class Inspection:
    """What `porter inspect` prints. Byte counts are of the weights alone, without activations or a KV cache."""

    source: str
    kind: str
    name: str
    route: str
    parameters: int
    bytes: dict[str, int]
    ops: dict[str, int]
    gaps: tuple[Gap, ...]
    notes: tuple[str, ...]
    fits: tuple[Fit, ...]

    def to_dict(self) -> dict[str, Any]:
        """The --json object, without its "schema"."""
        return {
            "source": self.source,
            "kind": self.kind,
            "name": self.name,
            "route": self.route,
            "parameters": self.parameters,
            "bytes": self.bytes,
            "ops": self.ops,
            "gaps": [
                {"name": g.name, "count": g.count, "location": g.location, "reason": g.reason}
                for g in self.gaps
            ],
            "notes": list(self.notes),
            "fits": [
                {
                    "machine": f.machine,
                    "dtype": f.dtype,
                    "memory_gb": f.memory,
                    "read_ms": f.read_ms,
                }
                for f in self.fits
            ],
        }


def inspect(
    source: str | torch.nn.Module,
    options: SourceOptions | None = None,
    *,
    example_inputs: Sequence[Any] = (),
) -> Inspection:
    """Size, route, missing ops and fitting machines of SOURCE, or of a torch module with its example inputs.

    Reads no weights. Raises InputError for a source that can't be read, UsageError for one that needs example inputs.
    Missing ops are not raised: they are the result's `gaps`.
    """
    from porter.compile import Plan
    from porter.convert import plan
    from porter.mlx_lm_route import choose_route
    from porter.sources import from_module, resolve

    resolved = (
        resolve(source, options)
        if isinstance(source, str)
        else from_module(source, example_inputs, options=options)
    )
    choice = choose_route(resolved, "auto")
    planned = plan(resolved) if choice.handover is None else Plan((), [], {}, "mlx-lm")
    tensors = parameter_specs(resolved)
    sizes = weight_bytes(tensors)
    return Inspection(
        source=resolved.spec,
        kind=resolved.kind,
        name=resolved.name,
        route=getattr(planned, "route", "graph"),
        parameters=sum(math.prod(shape) for dtype, shape in tensors if dtype in FLOATS),
        bytes=sizes,
        ops=dict(sorted(planned.ops.items(), key=lambda item: (-item[1], item[0]))),
        gaps=tuple(planned.gaps),
        notes=tuple([choice.reason, *planned.notes] if choice.reason else planned.notes),
        fits=tuple(fits(sizes, machines())),
    )


def parameter_specs(source: Source) -> list[tuple[str, tuple[int, ...]]]:
    """dtype and shape of each parameter, tied ones once; of each tensor, where there is no module."""
    if source.module is None:
        specs = [source.tensors.spec(key) for key in source.tensors.keys()]  # noqa: SIM118 - a protocol, not a dict
        return [(spec.dtype, tuple(spec.shape)) for spec in specs]
    return [
        (str(parameter.dtype).removeprefix("torch."), tuple(parameter.shape))
        for parameter in source.module.parameters()
    ]


def weight_bytes(tensors: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, int]:
    """Bytes of the weights in each dtype; quantized, matrices whose rows divide into groups are, the rest stay 16-bit.

    Integer tensors keep their size in every dtype and are counted as 4 bytes an element.
    """
    totals = dict.fromkeys([*FLOAT_BYTES, *QUANTIZED_BYTES], 0.0)
    for dtype, shape in tensors:
        count = math.prod(shape)
        grouped = len(shape) == 2 and shape[-1] % GROUP_SIZE == 0
        for name in totals:
            if dtype not in FLOATS:
                totals[name] += 4 * count
            elif name in FLOAT_BYTES:
                totals[name] += FLOAT_BYTES[name] * count
            else:
                totals[name] += (QUANTIZED_BYTES[name] if grouped else 2) * count
    return {name: math.ceil(total) for name, total in totals.items()}


def fits(sizes: dict[str, int], known: Iterable[Machine]) -> list[Fit]:
    """For each machine the most exact dtype that fits the largest memory it is sold with; 4-bit where none does."""
    order = ("float32", "bfloat16", "8-bit", "4-bit")
    found = []
    for machine in known:
        usable = max(machine.memory) * machine.usable * GB
        dtype = next((name for name in order if sizes[name] <= usable), order[-1])
        needed = sizes[dtype] / machine.usable / GB
        memory = next((size for size in sorted(machine.memory) if size >= needed), None)
        found.append(
            Fit(machine.name, dtype, memory, 1e3 * sizes[dtype] / (machine.bandwidth * GB))
        )
    return found


def machines() -> list[Machine]:
    """The rows of mappings/machines.toml."""
    from porter.weights.families import FOLDERS

    file = next(folder / MACHINES for folder in FOLDERS if (folder / MACHINES).is_file())
    rows = tomllib.loads(file.read_text(encoding="utf-8"))["machine"]
    return [
        Machine(row["name"], row["kind"], tuple(row["memory"]), row["bandwidth"], row["usable"])
        for row in rows
    ]
