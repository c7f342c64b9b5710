"""Example inputs of a vision tower by itself that reads all patches in one row, with the grid of each picture (Qwen-VL's)."""

from __future__ import annotations

from typing import Any

import torch

from porter.sources.dry_run import runs
from porter.sources.huggingface_grids import grid_of, note_of, patch_shapes
from porter.sources.huggingface_pictures import PICTURES, derive
from porter.sources.one_grid import OneGrid

_GRIDS = {"grid_thw", "image_grid_thw"}


def tower_inputs(
    module: Any, config: Any, required: list[str], generator: torch.Generator
) -> tuple[dict[str, torch.Tensor], dict[str, dict[int, str]], tuple[str, ...]] | None:
    """Pixels (3, patches, features) of three pictures of one grid, their dims, and what the user should hear.

    The module takes just these from then on. None where it is no such tower.
    """
    pixels = [name for name in required if name in ("hidden_states", "pixel_values")]
    if len(pixels) != 1 or not {*required} - {*pixels} <= _GRIDS or len(required) != 2:
        return None
    grid, cls = grid_of(config), type(module)
    _of_one_size(module, grid)
    for patch in patch_shapes(config):
        given = torch.randn((PICTURES, grid[1] * grid[2], *patch), generator=generator)
        if runs(module, values := {"pixel_values": given}):
            return values, {"pixel_values": {0: "pictures"}}, (note_of(config),)
    module.__class__ = cls
    return None


def _of_one_size(module: Any, grid: tuple[int, int, int]) -> None:
    """The tower takes pictures of this grid alone."""
    cls: Any = type(module)

    def forward(self: Any, pixel_values: torch.Tensor) -> Any:
        rows = pixel_values.flatten(0, 1)
        grids = torch.tensor([grid]).repeat(pixel_values.shape[0], 1)
        if not torch.compiler.is_compiling():
            return cls.forward(self, rows, grids)
        with OneGrid(self, grid, grids):
            return cls.forward(self, rows, grids)

    derive(module, forward)
