"""Dims that torch.export calls free but that its own guards confine to sizes near the traced one.

A window that covers the whole image, a position for each of 49 patches: at other sizes the author's code goes another way, or
does not run, and the graph at hand is not it.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch.export import ExportedProgram

#: Sizes that are tried, as numerator and denominator of a factor.
_FACTORS = ((2, 1), (3, 1), (1, 2))


class _Shape:
    def __init__(self, sizes: list[int]):
        self._sizes = sizes

    def size(self) -> list[int]:
        return self._sizes


def bounded_dims(
    program: ExportedProgram, named: dict[str, dict[int, str]], dims: set[str]
) -> dict[str, str]:
    """The dims of `dims` for which no size but those near the traced one satisfies the guards, with such a guard.

    Empty where this torch keeps no guards beside the program.
    """
    guards: list[str] = [g for g in getattr(program, "_guards_code", None) or [] if "==" in g]
    inputs = {
        node.name: node.meta["val"].shape
        for node in program.graph.nodes
        if node.op == "placeholder" and isinstance(node.meta.get("val"), torch.Tensor)
    }
    shapes = {name: [_traced(size) for size in shape] for name, shape in inputs.items()}
    traced = {
        dim: shapes[name][axis]
        for name, axes in named.items()
        for axis, dim in axes.items()
        if name in inputs and _is_free(inputs[name][axis])
    }
    dims = dims & traced.keys()
    spatial = dims - {"batch", "length"}

    def broken(group: set[str]) -> str | None:
        """A guard that fails whichever way the group's sizes are changed."""
        first: str | None = None
        for over, under in _FACTORS:
            if any(traced[dim] % under or traced[dim] * over // under < 2 for dim in group):
                continue
            sizes = {
                name: _Shape([
                    size * over // under if named.get(name, {}).get(axis) in group else size
                    for axis, size in enumerate(shape)
                ])
                for name, shape in shapes.items()
            }  # fmt: skip
            failed = next((guard for guard in guards if not _holds(guard, sizes)), None)
            if failed is None:
                return None
            first = first or failed
        return first

    if not guards or broken(dims) is None:
        return {}
    together = broken(spatial) if spatial else None
    found = {dim: broken({dim}) for dim in sorted(dims)}
    return {
        dim: _readable(guard, named)
        for dim, guard in found.items()
        if guard is not None and (dim not in spatial or together is not None)
    }


def _is_free(size: Any) -> bool:
    return isinstance(size, torch.SymInt) and not size.node.expr.is_number


def _traced(size: Any) -> int:
    return int(size.node.hint) if isinstance(size, torch.SymInt) else int(size)


def _holds(guard: str, shapes: dict[str, _Shape]) -> bool:
    try:
        return bool(
            eval(guard, {"L": shapes, "min": min, "max": max, "math": math, "__builtins__": {}})
        )  # torch's own text
    except Exception:  # noqa: BLE001 -- about a nested input, say: it says nothing here
        return True


def _readable(guard: str, named: dict[str, dict[int, str]]) -> str:
    def name(found: re.Match[str]) -> str:
        return named.get(found[1], {}).get(int(found[2]), found[0])

    return re.sub(r"L\['(\w+)'\]\.size\(\)\[(\d+)\]", name, guard)
