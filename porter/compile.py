"""From a resolved source to the port: graph, passes, classes, source, recipes. No weight is read."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from porter.emit import Emission, emit
from porter.emit.format import format_source
from porter.errors import Gap, PorterError, UnsupportedError
from porter.frontends.export import export_program
from porter.frontends.import_graph import import_program, module_table
from porter.ir import Program, Value, Variant
from porter.passes import run_pipeline
from porter.sources.variants import OtherSizes, tensors_of
from porter.weights import recipes
from porter.weights.overlay import PREFIX

if TYPE_CHECKING:
    import numpy as np

    from porter.sources import Source

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
    clock = time.perf_counter()
    timings: dict[str, float] = {}

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        timings[name] = timings.get(name, 0.0) + now - clock
        clock = now

    fixed: dict[str, str] = {}
    while True:
        progress("exporting the graph")
        exported, notes = export_program(source, frozenset(fixed))
        lap("export")
        progress("lowering to MLX")
        program = import_program(exported, source)
        program.config = source.config or {}
        if "length" in fixed:
            program.unrolled = None
        lap("lower")
        run_pipeline(program, input_layout, dump, fold_batchnorm)
        lap("passes")
        progress("writing model.py")
        emission = _emit(program, source)
        lap("emit")
        # A size that the author hands from module to module as a number is in no array: such a dim is fixed.
        unknown = {dim: where for dim, where in emission.unknown.items() if dim != "batch"}
        if not (unknown := unknown or emission.unknown):
            break
        if unknown.keys() <= fixed.keys():
            where = "; ".join(f"{dim}: {place}" for dim, place in unknown.items())
            raise PorterError(f"No array has the size of a dim where it is needed ({where}).")
        fixed |= unknown
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


def _emit(program: Program, source: Source) -> Emission:
    """Emits with sizes that hold in the model's other sizes too; settings that the file can't follow are left as they are."""

    def attempt(others: list[Source], fixed: Collection[str] = ()) -> Emission:
        title = f"{program.name}, ported from {program.cls}."
        known = {name: value for name, value in config_of(source).items() if name not in fixed}
        variants = [_variant(other) for other in others]
        return emit(program, known, model_type(source), title, variants)

    sizes = OtherSizes(source)
    emission = attempt(sizes.together())
    if emission.unexplained:
        emission = attempt([])
        free: list[str] = []
        fixed: list[str] = []
        for name in sizes.by_influence():
            wider = attempt(sizes.together([*free, name], wanted=2), fixed)
            if wider.unexplained:
                fixed.append(name)
            else:
                free.append(name)
                emission = wider
        if fixed:
            emission = attempt(sizes.together(free, wanted=2), fixed)
    return emission


def _variant(other: Source) -> Variant:
    shapes = {other.keys.get(name, name): tuple(t.shape) for name, t in tensors_of(other.module)}
    return Variant(config_of(other), module_table(other), shapes)


def model_type(source: Source) -> str:
    """What config.json calls the model: the source's own name for it."""
    named = (source.config or {}).get("model_type")
    name = named if isinstance(named, str) else source.name
    return "".join(c if c.isalnum() else "_" for c in name.lower()).strip("_") or "model"


def config_of(source: Source) -> dict[str, Any]:
    """The source's own names and values for its sizes: config.json's fields, else the constructor's arguments."""

    def fields(table: dict[str, Any]) -> Iterable[tuple[str, Any]]:
        for name, value in table.items():
            if (
                not name.isidentifier()
                or name.startswith("_")
                or name.endswith(("_id", "_ids", "_prob", "_rate"))
            ):
                continue
            if isinstance(value, (bool, int, float)):
                yield name, value
            elif (
                isinstance(value, (list, tuple))
                and value
                and all(type(item) in (int, float) for item in value)
            ):
                square = len(value) == 2 and value[0] == value[1] and "size" in name
                yield name, value[0] if square else tuple(value)  # a square image has one size

    config: dict[str, Any] = {}
    rope = (source.config or {}).get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        config["rope_theta"] = rope[
            "rope_theta"
        ]  # stands in a table of its own since transformers 5
    config.update(fields(source.config or {}))
    config.update(fields(source.constructors.get("", {})))
    return config


def _described(program: Program, name: str, value: Value) -> dict[str, Any]:
    names = {symbol: dim for symbol, (dim, _) in program.dims.items()}
    shape = [size if isinstance(size, int) else str(size.subs(names)) for size in value.shape]
    return {
        "name": name,
        "dtype": value.dtype,
        "shape": shape,
        "permute": list(value.permute) if value.permute else None,
    }
