"""From a resolved source to the port: graph, passes, classes, source, recipes. No weight is read."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from porter.emit.format import format_source
from porter.errors import Gap, PorterError, UnsupportedError
from porter.family import Family, model_type
from porter.frontends.export import HOLDS, export_program
from porter.frontends.import_graph import import_program
from porter.ir import Program, Value
from porter.passes import run_pipeline
from porter.passes.hand_sizes import hand_sizes
from porter.passes.shard.plan_shards import undo_shards
from porter.weights import recipes
from porter.weights.overlay import PREFIX

if TYPE_CHECKING:
    import numpy as np

    from porter.sources import Source

#: CPU seconds of tracing up to which another size is traced too.
TRACED_AGAIN = 30.0

Progress = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Port:
    """Everything of the output but the weights' data; docs/ARCHITECTURE.md says what each field holds."""

    model_py: str
    model_type: str
    config: dict[str, Any]
    recipes: dict[str, recipes.Recipe]
    kept: dict[str, np.ndarray]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    modules: list[dict[str, Any]]
    notes: list[str]
    timings: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What `porter inspect` says of a conversion: the ops, and those without a lowering."""

    gaps: tuple[Gap, ...]
    notes: list[str]
    ops: dict[str, int]
    route: str = "graph"


def plan(source: Source) -> Plan:
    """Runs the same lowering as a conversion and reports what it lacks."""
    exported, notes = export_program(source)
    ops: dict[str, int] = {}
    for node in exported.graph.nodes:
        if node.op == "call_function":
            name = str(node.target).replace("torch.ops.", "")
            ops[name] = ops.get(name, 0) + 1
    try:
        import_program(exported, source)
    except UnsupportedError as error:
        return Plan(error.gaps, notes, ops)
    return Plan((), notes, ops)


def compile_port(
    source: Source,
    input_layout: str = "nhwc",
    progress: Progress = lambda *_: None,
    dump: Callable[[str, Program], None] | None = None,
    fold_batchnorm: bool = False,
) -> Port:
    """Ports the source's graph; with `fold_batchnorm` a BatchNorm becomes part of the convolution before it.

    Raises UnsupportedError that names every op without a lowering.
    """

    def trace(
        other: Source, symbolic: bool, fixed: frozenset[str], dynamic: frozenset[str]
    ) -> Program:
        """Another size's program, as this one's is made; its sizes are numbers unless it is to be `symbolic`."""
        exported, _ = export_program(other, fixed, dynamic if symbolic else frozenset())
        return lowered(exported, other, input_layout, None, fold_batchnorm, fixed)

    clock = time.perf_counter()
    timings: dict[str, float] = {}

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        timings[name] = timings.get(name, 0.0) + now - clock
        clock = now

    fixed: dict[str, str] = {}
    family = Family(source)
    while True:
        progress("exporting the graph")
        started = time.process_time()
        exported, notes = export_program(source, frozenset(fixed))
        lap("export")
        progress("lowering to MLX")
        program = lowered(exported, source, input_layout, dump, fold_batchnorm, fixed)
        program.holds = [note for note in notes if note.startswith(HOLDS)]
        lap("passes")
        progress("writing model.py")
        slow = time.process_time() - started > TRACED_AGAIN
        dynamic = frozenset(name for name, _ in program.dims.values())
        again = None if slow else partial(trace, fixed=frozenset(fixed), dynamic=dynamic)
        emission = family.emit(program, again)
        while emission.unknown and hand_sizes(program, emission.wanted):
            emission = family.emit(program, again)
        lap("emit")
        # A size that the author hands from module to module as a number is in no array: such a dim is fixed.
        unknown = {dim: where for dim, where in emission.unknown.items() if dim != "batch"}
        if not (unknown := unknown or emission.unknown):
            break
        if unknown.keys() <= fixed.keys():
            where = "; ".join(f"{dim}: {place}" for dim, place in unknown.items())
            raise PorterError(f"No array has the size of a dim where it is needed ({where}).")
        fixed |= unknown
    if emission.whole is not None and undo_shards(program, emission.whole):
        emission = family.emit(program, again)
    source_text = format_source(emission.source)
    lap("emit")
    notes += [
        f"{dim} stayed fixed: a size made of it is in no array where it is needed ({where})"
        for dim, where in fixed.items()
    ]
    kept: dict[str, np.ndarray] = {}
    table = dict(emission.recipes)
    available = set(source.tensors.keys())
    for path, value in emission.kept.items():
        if not recipes.sources(value.recipe) <= available:
            kept[path] = value.data
            table[path] = recipes.source(f"{PREFIX}{path}")
    return Port(
        source_text,
        model_type(source),
        emission.config,
        table,
        kept,
        [
            _described(program, value.origin or "x", value)
            for value in program.inputs
            if value.dtype != "caches"
        ],
        [_described(program, name, value) for name, value in program.outputs],
        emission.modules,
        [*source.notes, *notes, *program.notes, *emission.notes],
        timings,
    )


def lowered(
    exported: Any,
    source: Source,
    input_layout: str,
    dump: Callable[[str, Program], None] | None,
    fold_batchnorm: bool,
    fixed: Collection[str],
) -> Program:
    """The exported graph as a program of MLX calls, every pass run."""
    program = import_program(exported, source)
    program.config = source.config or {}
    if "length" in fixed:
        program.unrolled = None
    run_pipeline(program, input_layout, dump, fold_batchnorm)
    return program


def _described(program: Program, name: str, value: Value) -> dict[str, Any]:
    names = {symbol: dim for symbol, (dim, _) in program.dims.items()}
    shape = [size if isinstance(size, int) else str(size.subs(names)) for size in value.shape]
    return {
        "name": name,
        "dtype": value.dtype,
        "shape": shape,
        "permute": list(value.permute) if value.permute else None,
    }
