"""Example inputs of a vision tower by itself that reads all patches in one row, with the grid of each picture (Qwen-VL's)."""

from __future__ import annotations

from typing import Any

import torch

from porter.sources.dry_run import runs
from porter.sources.huggingface_pictures import PICTURES, derive
from porter.sources.huggingface_sized import Form, forms
from porter.sources.one_picture import of_every_picture

_GRID = "image_grid_thw"


def tower_inputs(
    module: Any, config: Any, required: list[str], generator: torch.Generator
) -> tuple[dict[str, torch.Tensor], dict[str, dict[int, str]], tuple[str, ...]] | None:
    """Pixels (3, patches, features) of three pictures of one grid, their dims, and what the user should hear.

    The module takes just these from then on. None where it is no such tower.
    """
    pixels = [name for name in required if name in ("hidden_states", "pixel_values")]
    if len(pixels) != 1 or not {*required} - {*pixels} <= {_GRID, "grid_thw"} or len(required) != 2:
        return None
    cls = type(module)
    for form in forms(config, {_GRID: None}):
        _of_one_form(module, form)
        given = torch.randn((PICTURES, *form.picture), generator=generator)
        if runs(module, values := {"pixel_values": given}):
            return values, {"pixel_values": {0: "pictures"}}, form.notes
        module.__class__ = cls
    return None


def _of_one_form(module: Any, form: Form) -> None:
    """The tower takes pictures of this form alone."""
    cls: Any = type(module)

    def forward(self: Any, pixel_values: torch.Tensor) -> Any:
        if not torch.compiler.is_compiling():
            grids = form.repeated(pixel_values.shape[0])[_GRID]
            return cls.forward(self, form.given(pixel_values), grids)

        def plain(pixels: Any, image_grid_thw: Any) -> Any:
            return cls.forward(self, pixels, image_grid_thw)

        return of_every_picture(plain, pixel_values, form.shape, **form.sizes)

    derive(module, forward)
