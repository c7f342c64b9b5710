"""One model.py for every size of a model: its numbers are tied to settings that give them in other sizes too."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from porter.emit import Emission, emit
from porter.frontends.import_graph import module_table
from porter.ir import Program, Variant
from porter.ir.align import align
from porter.sources.variants import WANTED, OtherSizes, tensors_of

if TYPE_CHECKING:
    from porter.sources import Source

#: CPU seconds after which one traced size has to do.
QUICK = 3.0

Trace = Callable[["Source"], Program]


def emit_family(program: Program, source: Source, trace: Trace | None) -> Emission:
    """Emits with sizes that hold in the model's other sizes too; settings that the file can't follow are left as they are.

    `trace` gives the program of another size: numbers that only a forward has are followed through it. Where there is none they
    are tied by name.
    """
    title = f"{program.name}, ported from {program.cls}."

    def attempt(variants: list[Variant], fixed: Sequence[str] = ()) -> Emission:
        return emit(program, config_of(source), model_type(source), title, variants, fixed)

    def together(
        only: Collection[str] | None = None, wanted: int = WANTED, truly: Collection[str] = ()
    ) -> list[Variant]:
        return [_variant(other) for other in sizes.together(only, wanted, truly)]

    sizes = OtherSizes(source)
    free: list[str] = [*sizes.names]
    fixed: list[str] = []
    variants = together()
    emission = attempt(variants)
    if emission.unexplained:
        emission, variants, free = attempt([]), [], []
        queue = _halves(sizes.by_influence())
        while queue:  # what can't be followed is a few settings of many
            names = queue.pop(0)
            found = together([*free, *names], wanted=3, truly=names)
            wider = attempt(found, fixed) if found else None
            if wider is not None and not wider.unexplained:
                free += names
                emission, variants = wider, found
            elif len(names) > 1:
                queue[:0] = _halves(names)
            else:
                fixed += names
        if fixed:
            variants = together(free)
            emission = attempt(variants, fixed)
    traced = _traced(program, sizes, free, trace) if variants and trace is not None else []
    return attempt([*variants, *traced], fixed) if traced else emission


def _halves(names: list[str]) -> list[list[str]]:
    middle = len(names) // 2
    return [half for half in (names[:middle], names[middle:]) if half]


def _traced(
    program: Program, sizes: OtherSizes, free: Collection[str], trace: Trace
) -> list[Variant]:
    """Sizes whose graph has the same steps, with the likes of the program's nodes; two where tracing is quick."""
    found: list[Variant] = []
    for others in sizes.same_graph(free):
        for other in others:
            started = time.process_time()
            try:
                pairs = align(program, trace(other))
            except Exception:  # noqa: BLE001 -- it does not take the example inputs, and the author's code raises anything
                break
            if pairs is None:
                break
            found.append(_variant(other, *pairs))
            if time.process_time() - started > QUICK:
                break
        if found:
            break
    return found


def _variant(other: Source, nodes: Any = None, values: Any = None) -> Variant:
    shapes = {other.keys.get(name, name): tuple(t.shape) for name, t in tensors_of(other.module)}
    return Variant(config_of(other), module_table(other), shapes, nodes or {}, values or {})


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
