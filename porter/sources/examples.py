"""Example inputs as they are put together: values, and the names of the axes that may vary."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass(slots=True)
class Examples:
    """Values by input name, the names of their dynamic axes, and what the user should hear of the choice."""

    values: dict[str, torch.Tensor] = field(default_factory=dict)
    dynamic: dict[str, dict[int, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    why: str = ""  # pictures are not given as a text has them

    def add(self, name: str, value: torch.Tensor, axes: dict[int, str]) -> None:
        self.values[name] = value
        dims = {axis: self._dim(name, dim, value.shape[axis]) for axis, dim in axes.items()}
        self.dynamic[name] = dims

    def copy(self) -> Examples:
        return Examples(dict(self.values), dict(self.dynamic))

    def _dim(self, name: str, dim: str, size: int) -> str:
        """`dim`, or one of its own where that is another size already: the tokens of a text beside the samples of a sound."""
        known = {
            dim: self.values[other].shape[axis]
            for other, axes in self.dynamic.items()
            for axis, dim in axes.items()
            if other != name
        }
        own = [f"{other}_{dim}" for other in self.values]
        return next(
            (d for d in (dim, *(d for d in own if d in known)) if known.get(d, size) == size),
            f"{name}_{dim}",
        )
