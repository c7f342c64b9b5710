"""Example inputs of a vision tower by itself that is told each picture's size: its grid of patches, or where each patch is."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from porter.sources.dry_run import runs
from porter.sources.huggingface_pictures import PICTURES, derive
from porter.sources.huggingface_sized import GRIDS, SHOWN, Form, forms
from porter.sources.one_picture import of_every_picture

#: What towers call what their models call otherwise.
_ALSO = {
    "grid_thw": "image_grid_thw",
    "merge_sizes": "image_merge_sizes",
    "pixel_position_ids": "image_position_ids",
}


def tower_inputs(
    module: Any, config: Any, required: list[str], generator: torch.Generator
) -> tuple[dict[str, torch.Tensor], dict[str, dict[int, str]], tuple[str, ...]] | None:
    """Pixels (3, patches, features) of three pictures of one size, their dims, and what the user should hear.

    The module takes just these from then on. None where it is no such tower.
    """
    signature = inspect.signature(module.forward).parameters
    known = {*GRIDS, "image_merge_sizes", SHOWN}
    told = {also: name for name in required if (also := _ALSO.get(name, name)) in known}
    pixels = [name for name in required if name in ("hidden_states", "pixel_values")]
    rest = {*required} - {*pixels} - {*told.values()}
    if len(pixels) != 1 or rest or "input_ids" in signature or not {*told} & {*GRIDS}:
        return None
    cls = type(module)
    for form in forms(config, {also: signature[name] for also, name in told.items()}):
        _of_one_form(module, pixels[0], told, form)
        given = torch.randn((PICTURES, *form.picture), generator=generator)
        if runs(module, values := {"pixel_values": given}):
            return values, {"pixel_values": {0: "pictures"}}, form.notes
        module.__class__ = cls
    return None


def _of_one_form(module: Any, pixels: str, told: dict[str, str], form: Form) -> None:
    """The tower takes pictures of this form alone, as its input `pixels`; `told` has its names of what tells their sizes."""
    cls: Any = type(module)

    def forward(self: Any, pixel_values: torch.Tensor) -> Any:
        def plain(given: Any, **sizes: Any) -> Any:
            return cls.forward(self, **{pixels: given}, **{told[k]: x for k, x in sizes.items()})

        if not torch.compiler.is_compiling():
            sizes = form.repeated(pixel_values.shape[0])
            return plain(form.given(pixel_values), **sizes)
        return of_every_picture(plain, pixel_values, form.shape, **form.sizes)

    derive(module, forward)
