"""The table of all lowerings; duplicates raise."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from porter.ir import Location, Size, Value
from porter.ir.builder import Builder

FAMILIES = (
    "porter.lowering.arithmetic",
    "porter.lowering.elementwise",
    "porter.lowering.activations",
    "porter.lowering.shapes",
    "porter.lowering.reductions",
    "porter.lowering.sorting",
    "porter.lowering.linear",
    "porter.lowering.convolution",
    "porter.lowering.normalization",
    "porter.lowering.pooling",
    "porter.lowering.adaptive_pooling",
    "porter.lowering.padding",
    "porter.lowering.attention",
    "porter.lowering.indexing",
    "porter.lowering.creation",
    "porter.lowering.windows",
    "porter.lowering.scattering",
    "porter.lowering.writing",
    "porter.lowering.slice_writes",
    "porter.lowering.spectral",
    "porter.lowering.interpolation",
    "porter.lowering.recurrent",
    "porter.lowering.sampling",
    "porter.lowering.losses",
    "porter.lowering.algebra",
    "porter.lowering.special",
    "porter.lowering.primitives",
    "porter.lowering.detection",
    "porter.lowering.positions",
)


@dataclass(slots=True)
class Call:
    """What a lowering is given beside the op's arguments: a builder, and the shape and dtype that must come out."""

    build: Builder
    outputs: list[tuple[tuple[Size, ...], str]]
    name: str
    location: Location | None = None
    unread: frozenset[int] = frozenset()  # outputs of several that nothing reads
    is_plain: bool = (
        True  # the first argument's memory holds its elements in their order and nothing else
    )

    @property
    def shape(self) -> tuple[Size, ...]:
        return self.outputs[0][0]

    @property
    def dtype(self) -> str:
        return self.outputs[0][1]


Lowering = Callable[..., Any]
_REGISTRY: dict[str, Lowering] = {}


def lowering(*names: str) -> Callable[[Lowering], Lowering]:
    """Registers a function for source ops, by their full names (``"aten.gelu.default"``, ``"mylib::op"``).

    The function gets a Call, then the op's arguments (arrays as Value, numbers as they are) and returns the Value, or a
    list of them, that the op gives. Raises ValueError where an op has a lowering already.
    """

    def register(function: Lowering) -> Lowering:
        for name in names:
            name = _canonical(name)
            known = _REGISTRY.get(name)
            if known is not None and not _same_place(known, function):
                raise ValueError(
                    f"{name} has a lowering already: {known.__qualname__} in {known.__module__}."
                )
            _REGISTRY[name] = function
        return function

    return register


def _same_place(known: Lowering, function: Lowering) -> bool:
    """Whether a file that is run again says the same; the rows of a table all have one place."""
    place = known.__module__, known.__qualname__
    return "<locals>" not in place[1] and place == (function.__module__, function.__qualname__)


def register_table(table: dict[str, str]) -> None:
    """Registers one-line ops: the MLX call takes the op's own array arguments and numbers, in their order."""
    for name, op in table.items():
        lowering(name)(_row(op))


def _row(op: str) -> Lowering:
    def lower(call: Call, *args: Any, **_: Any) -> Value:
        if op.startswith("nn.") and call.dtype == "complex64":
            from porter.lowering.refusal import refuse

            raise refuse(call, f"{op} takes no complex numbers")
        return call.build.op(op, *args, shape=call.shape, dtype=call.dtype)

    lower.__name__ = op
    return lower


def _canonical(name: str) -> str:
    if "::" in name:
        name = name.replace("::", ".")
        return name if name.count(".") > 1 else f"{name}.default"
    return name


@cache
def _load() -> None:
    for family in FAMILIES:
        importlib.import_module(family)
    for entry in entry_points(group="porter.lowerings"):
        entry.load()


def registry_of(name: str) -> Lowering:
    """The lowering of a source op, for one that is the same by another name."""
    return _REGISTRY[name]


def registry() -> dict[str, Lowering]:
    """Every lowering by the source op's name, the user's own included."""
    _load()
    return _REGISTRY
