"""One model.py for every size of a model: its numbers are tied to settings that give them in other sizes too."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from porter.emit import Emission, emit
from porter.frontends.import_graph import module_table
from porter.ir import Program, Variant
from porter.ir.align import align
from porter.sources.fitted_inputs import fitted_inputs
from porter.sources.variants import WANTED, OtherSizes, tensors_of
from porter.time_limit import TimeLimitExceeded, time_limit

if TYPE_CHECKING:
    from porter.sources import Source

#: CPU seconds after which one traced size has to do.
QUICK = 2.0
#: CPU seconds that one traced size may take, and after which no more are tried; a deeper model may be many times the size
#: of the source's.
MOST = 20.0

Trace = Callable[["Source", bool], Program]
#: Sizes that differ in the settings of both lists, and truly in those of the second.
Draw = Callable[[list[str], list[str]], list[Variant]]


class Family:
    """The other sizes of a source's model, which are chosen with the first emission and serve the later ones."""

    def __init__(self, source: Source):
        self._source = source
        self._sizes = OtherSizes(source)
        self._chosen: list[Variant] | None = None
        self._free: list[str] = []
        self._fixed: list[str] = []
        #: models whose graph has the same steps, and the graphs beside the program that they were traced for
        self._alike: list[Source] | None = None
        self._traced: tuple[Program | None, list[tuple[Source, Program]]] = (None, [])

    def emit(self, program: Program, trace: Trace | None) -> Emission:
        """Emits with sizes that hold in the model's other sizes too; settings that the file can't follow are left as they are.

        `trace` gives the program of another size, with symbolic sizes or without: numbers that only a forward has are followed
        through it. Where there is none they are tied by name.
        """
        emission = self._choose(program) if self._chosen is None else None
        assert self._chosen is not None
        if self._chosen and trace is not None:
            if self._traced[0] is not program:
                self._trace(program, trace)
            pairs = ((other, align(program, graph)) for other, graph in self._traced[1])
            traced = [_variant(other, *found) for other, found in pairs if found is not None]
            emission = self._attempt(program, [*self._chosen, *traced]) if traced else emission
        return emission or self._attempt(program, self._chosen)

    def _choose(self, program: Program) -> Emission:
        """Chooses the settings that the file can follow, and models in which they are changed."""

        def attempt(variants: list[Variant], fixed: list[str]) -> Emission:
            self._fixed = fixed
            return self._attempt(program, variants)

        self._free = [*self._sizes.names]
        self._chosen = self._together()
        emission = attempt(self._chosen, [])
        if emission.unexplained:  # what can't be followed is a few settings of many
            alone = {name: _variant(other) for name, other in self._sizes.alone.items()}
            draws: tuple[Draw, ...] = (
                lambda names, new: [alone[name] for name in (*names, *new)],
                lambda names, new: self._together([*names, *new], wanted=3, truly=new),
            )
            for draw in draws:  # the second builds models for each question
                self._free, fixed = _followed(list(alone), draw, attempt)
                self._chosen = self._together(self._free) if self._free else []
                emission = attempt(self._chosen, fixed)
                if not emission.unexplained:
                    break
        return emission

    def _attempt(self, program: Program, variants: list[Variant]) -> Emission:
        source = self._source
        title = f"{program.name}, ported from {program.cls}."
        return emit(program, config_of(source), model_type(source), title, variants, self._fixed)

    def _together(
        self, only: Collection[str] | None = None, wanted: int = WANTED, truly: Collection[str] = ()
    ) -> list[Variant]:
        return [_variant(other) for other in self._sizes.together(only, wanted, truly)]

    def _trace(self, program: Program, trace: Trace) -> None:
        """Finds models whose graph has the same steps; two where tracing is quick.

        Graphs without symbolic sizes come first: they take a fraction of the time, and do where no setting has to do with one.
        """
        found: list[tuple[Source, Program]] = []
        self._traced = (program, found)
        until = time.process_time() + MOST
        candidates: Iterable[list[Source]] = self._sizes.same_graph(self._free)
        if self._alike is not None:
            candidates = [self._alike]
        for symbolic in (False, True) if program.dims else (True,):

            def traced(source: Source, by: bool = symbolic) -> Program:
                return trace(source, by)

            again = []
            for others in candidates:
                again.append(others)
                for other in others:
                    started = time.process_time()
                    if started > until:
                        return
                    graph = self._traced_alike(program, other, traced, until)
                    if graph is None:
                        break
                    found.append((other, graph))
                    if time.process_time() - started > QUICK:
                        break
                if found:
                    self._alike = others
                    return
            candidates = again

    def _traced_alike(
        self, program: Program, other: Source, trace: Callable[[Source], Program], until: float
    ) -> Program | None:
        """The graph of another size, by the example inputs or, where they don't suit it, by such as are as wide as it is.

        After `until`, in CPU seconds of the process, no more are tried.
        """
        widths = _widths(config_of(self._source), config_of(other))
        for source in (other, *fitted_inputs(other, widths)):
            try:
                graph = _traced_alike(program, source, trace)
            except _Refused:
                graph = None
            if graph is not None or time.process_time() > until:
                return graph
        return None


class _Refused(Exception):
    """A model of another size does not take the example inputs."""


def _traced_alike(
    program: Program, other: Source, trace: Callable[[Source], Program]
) -> Program | None:
    """A graph of another size with the program's steps; None where it has others. Raises _Refused."""
    try:
        with time_limit(MOST):
            graph = trace(other)
            return graph if align(program, graph) is not None else None
    except TimeLimitExceeded:
        return None
    except Exception as error:  # the author's code raises anything
        raise _Refused from error


def _widths(config: dict[str, Any], other: dict[str, Any]) -> dict[int, int]:
    """What each number among the settings is in another size; not those that are several."""
    found: dict[int, set[int]] = {}
    for name, value in config.items():
        if type(value) is int and type(other.get(name)) is int:
            found.setdefault(value, set()).add(other[name])
    return {own: new.pop() for own, new in found.items() if len(new) == 1}


def _followed(
    names: list[str], draw: Draw, attempt: Callable[[list[Variant], list[str]], Emission]
) -> tuple[list[str], list[str]]:
    """The settings that all numbers follow, taken in by halves, and those that some number does not."""
    free: list[str] = []
    fixed: list[str] = []
    queue = _halves(names)
    while queue:
        new = queue.pop(0)
        found = draw(free, new)
        if found and not attempt(found, fixed).unexplained:
            free += new
        elif len(new) > 1:
            queue[:0] = _halves(new)
        else:
            fixed += new
    return free, fixed


def _halves(names: list[str]) -> list[list[str]]:
    middle = len(names) // 2
    return [half for half in (names[:middle], names[middle:]) if half]


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
