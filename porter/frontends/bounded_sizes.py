"""Dims that torch.export calls free but that its own guards confine to sizes near the traced one.

A window that covers the whole image, a position for each of 49 patches: at other sizes the author's code goes another way, or
does not run, and the graph at hand is not it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch.export import ExportedProgram

#: Sizes that are tried, as numerator and denominator of a factor.
_FACTORS = ((2, 1), (3, 1), (1, 2))
#: What torch writes its guards with.
_NAMES = {"torch": torch, "math": math, "min": min, "max": max, "round": round, "__builtins__": {}}


class _Shape:
    def __init__(self, sizes: list[int]):
        self._sizes = sizes

    def size(self) -> list[int]:
        return self._sizes


class _Guards:
    """What a traced graph wants of the sizes of its inputs, as the code that checks it.

    Empty where this torch keeps no guards beside the program.
    """

    def __init__(
        self, program: ExportedProgram, named: dict[str, dict[int, str]], dims: set[str]
    ) -> None:
        self.codes = [_flat(code) for code in getattr(program, "_guards_code", None) or []]
        inputs = {
            node.name: node.meta["val"].shape
            for node in program.graph.nodes
            if node.op == "placeholder" and isinstance(node.meta.get("val"), torch.Tensor)
        }
        self.shapes = {name: [_traced(size) for size in shape] for name, shape in inputs.items()}
        self.named = {n.lower(): axes for n, axes in shared_names(program, named).items()}
        #: the traced size of each dim that is free
        self.traced = {
            dim: self.shapes[name][axis]
            for name, axes in self.named.items()
            for axis, dim in axes.items()
            if dim in dims and name in inputs and _is_free(inputs[name][axis])
        }

    def failing(self, sizes: dict[str, int], codes: list[str]) -> str | None:
        """The first guard of these that does not hold with these sizes of dims."""
        shapes = {
            name: _Shape([
                sizes.get(self.named.get(name, {}).get(axis, ""), size)
                for axis, size in enumerate(shape)
            ])
            for name, shape in self.shapes.items()
        }  # fmt: skip
        return next((code for code in codes if not _holds(code, shapes)), None)


def shared_names(
    program: ExportedProgram, named: dict[str, dict[int, str]]
) -> dict[str, dict[int, str]]:
    """The names of the inputs' axes; what the export found to be one size has its first name everywhere."""
    shapes = {
        node.name: node.meta["val"].shape
        for node in program.graph.nodes
        if node.op == "placeholder" and isinstance(node.meta.get("val"), torch.Tensor)
    }
    first: dict[str, str] = {}

    def one_name(size: Any, dim: str) -> str:
        return first.setdefault(str(size), dim) if _is_free(size) else dim

    return {
        name: {axis: one_name(shapes[name.lower()][axis], dim) for axis, dim in axes.items()}
        for name, axes in named.items()
        if name.lower() in shapes  # torch writes its placeholders in lower case
    }


def bounded_dims(
    program: ExportedProgram, named: dict[str, dict[int, str]], dims: set[str]
) -> dict[str, str]:
    """The dims of `dims` for which no size but those near the traced one satisfies the guards, with such a guard."""
    guards = _Guards(program, named, dims)
    equalities = [code for code in guards.codes if "==" in code]
    traced = guards.traced
    spatial = traced.keys() - {"batch", "length"}

    def broken(group: Collection[str]) -> str | None:
        """A guard that fails whichever way the group's sizes are changed."""
        first: str | None = None
        for over, under in _FACTORS:
            if any(traced[dim] % under or traced[dim] * over // under < 2 for dim in group):
                continue
            sizes = {dim: traced[dim] * over // under for dim in group}
            failed = guards.failing(sizes, equalities)
            if failed is None:
                return None
            first = first or failed
        return first

    if not equalities or broken(traced) is None:
        return {}
    together = broken(spatial) if spatial else None
    found = {dim: broken({dim}) for dim in sorted(traced)}
    return {
        dim: _readable(guard, guards.named)
        for dim, guard in found.items()
        if guard is not None and (dim not in spatial or together is not None)
    }


def branching_dims(
    program: ExportedProgram,
    named: dict[str, dict[int, str]],
    dims: set[str],
    accepts: Callable[[dict[str, int]], bool],
) -> dict[str, str]:
    """The dims at some sizes of which the source takes another way than the graph, each with a guard that fails there.

    `accepts` says whether the source runs with such sizes at all: what it refuses itself is no other way.
    """
    guards = _Guards(program, named, dims)
    shortest = sorted(guards.codes, key=len)
    found: dict[str, str] = {}
    for dim, traced in sorted(guards.traced.items()):
        for size in (traced + 1, traced + 2, traced + 3, 2 * traced + 1, 8 * traced):
            guard = guards.failing({dim: size}, shortest)
            if guard is not None and accepts({dim: size}):
                found[dim] = _readable(guard, guards.named)
                break
    return found


def failing_guard(
    program: ExportedProgram, named: dict[str, dict[int, str]], sizes: dict[str, int]
) -> str | None:
    """What the graph wants of its sizes that does not hold with these sizes of dims, in the dims' names."""
    guards = _Guards(program, named, {*sizes})
    guard = guards.failing(sizes, sorted(guards.codes, key=len))
    return None if guard is None else _readable(guard, guards.named)


def _is_free(size: Any) -> bool:
    return isinstance(size, torch.SymInt) and not size.node.expr.is_number


def _traced(size: Any) -> int:
    return int(size.node.hint) if isinstance(size, torch.SymInt) else int(size)


def _holds(guard: str, shapes: dict[str, _Shape]) -> bool:
    try:
        return bool(eval(guard, _NAMES | {"L": shapes}))  # torch's own text
    except Exception:  # noqa: BLE001 -- about what is no input of the graph: it says nothing here
        return True


def _flat(guard: str) -> str:
    """L['data']['points'][0].size()[1] as L['data_points_0'].size()[1], the name of the placeholder."""

    def name(found: re.Match[str]) -> str:
        keys = re.findall(r"\['?(\w+)'?\]", found[0])
        return f"L['{'_'.join(keys).lower()}'].size()"

    return re.sub(r"L((?:\['?\w+'?\])+)\.size\(\)", name, guard)


def _readable(guard: str, named: dict[str, dict[int, str]]) -> str:
    def name(found: re.Match[str]) -> str:
        return named.get(found[1], {}).get(int(found[2]), found[0])

    text = re.sub(r"L\['(\w+)'\]\.size\(\)\[(\d+)\]", name, guard)
    text = re.sub(r"torch\.sym_float\((\w+)\)", r"\1", text)
    return re.sub(r"^\(([^()]*)\) <= 0$", r"\1 == 0", text)  # a remainder is never less
