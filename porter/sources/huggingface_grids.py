"""Example inputs of a decoder whose pictures are rows of patches in a grid, by which positions are counted (Qwen-VL).

How many patches a picture has would decide what the graph is: a port takes pictures of one size, any number of them.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from porter.sources.dry_run import dry_run, runs
from porter.sources.huggingface_pictures import (
    PICTURES,
    Inputs,
    derive,
    features,
    texts_with_pictures,
)
from porter.sources.one_grid import OneGrid

#: Rows and columns of a picture's features, which differ so that they are not taken for each other.
ROWS, COLUMNS = 2, 3


def gridded_inputs(
    module: Any, config: Any, token: int, ids: torch.Tensor, generator: torch.Generator
) -> tuple[Inputs, str] | None:
    """Ids (2, length) with three pictures, their pixels (3, patches, features), and what the user should hear.

    The module takes just these from then on. None where it takes its pictures in another form.
    """
    inner = getattr(module, "model", None)
    vision: Any = getattr(config, "vision_config", None)
    needed = ("get_image_features", "compute_3d_position_ids")
    if vision is None or not all(hasattr(inner, name) for name in needed):
        return None
    grid = grid_of(vision)
    row, *_ = patch_shapes(vision)
    pixels = torch.randn((PICTURES, grid[1] * grid[2], *row), generator=generator)
    values = {
        "input_ids": texts_with_pictures(ids, token, ROWS * COLUMNS),
        "pixel_values": pixels,
    }
    parts = [module, inner, getattr(inner, "language_model", None)]
    plain = [type(part) for part in parts]
    _of_one_size(module, inner, token, grid)
    if not (_has_features(inner, pixels, grid) and runs(module, values)):
        for part, cls in zip(parts, plain, strict=True):
            if type(part) is not cls:
                part.__class__ = cls
        return None
    axes = {"input_ids": {0: "batch", 1: "length"}, "pixel_values": {0: "pictures"}}
    return (values, axes), note_of(vision)


def grid_of(vision: Any) -> tuple[int, int, int]:
    """Frames, rows and columns of a picture's patches."""
    names = ("spatial_merge_size", "merge_size", "merge_kernel_size")
    merged = next((size for name in names if (size := getattr(vision, name, None))), 1)
    rows, columns = merged if isinstance(merged, (list, tuple)) else (merged, merged)
    return 1, ROWS * rows, COLUMNS * columns


def patch_shapes(vision: Any) -> list[tuple[int, ...]]:
    """How a patch may be given: all its numbers in a row, or channels, rows and columns."""
    channels: Any = getattr(vision, "in_channels", None) or getattr(vision, "in_chans", 3)
    frames = getattr(vision, "temporal_patch_size", None) or getattr(vision, "patch_temporal", 1)
    size = vision.patch_size
    return [(channels * frames * size * size,), (channels, size, size)]


def note_of(vision: Any) -> str:
    (_, rows, columns), size = grid_of(vision), vision.patch_size
    return (
        f"pictures have {rows} x {columns} patches of {size} x {size} pixels, each picture a row of pixel_values: "
        "the graph is that of one size"
    )


def _has_features(inner: Any, pixels: torch.Tensor, grid: tuple[int, int, int]) -> bool:
    """Whether the tower itself gives what stands in the places of its pictures, and no module behind it."""
    given = {"pixel_values": pixels, "image_grid_thw": grid}
    try:
        found = dry_run(inner, "get_image_features", given)
    except Exception:  # noqa: BLE001 -- it is another tower
        return False
    return features(found) == len(pixels) * ROWS * COLUMNS


def _of_one_size(module: Any, inner: Any, token: int, grid: tuple[int, int, int]) -> None:
    """The module takes ids and pictures of this grid alone, and returns logits alone."""
    outer_class, inner_class = type(module), type(inner)

    @functools.wraps(outer_class.forward)
    def forward(self: Any, input_ids: Any, pixel_values: Any = None) -> Any:
        given: dict[str, Any] = {}
        if pixel_values is not None and torch.compiler.is_compiling():
            given = {"pixel_values": pixel_values, "image_grid_thw": grid, "mm_token_type_ids": ()}
        elif pixel_values is not None:
            given = {
                "pixel_values": pixel_values.flatten(0, 1),
                "image_grid_thw": torch.tensor([grid]).repeat(pixel_values.shape[0], 1),
                "mm_token_type_ids": (input_ids == token).int(),
            }
        return {"logits": outer_class.forward(self, input_ids=input_ids, **given)["logits"]}

    def get_image_features(self: Any, pixel_values: Any, image_grid_thw: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling():
            return inner_class.get_image_features(self, pixel_values, image_grid_thw, **kwargs)
        grids = torch.tensor([grid]).repeat(pixel_values.shape[0], 1)
        with OneGrid(self.visual, grid, grids):
            found = self.visual(pixel_values.flatten(0, 1), grid_thw=grids)
        found.pooler_output = (found.pooler_output,)  # as after a split by pictures
        if getattr(found, "deepstack_features", None) is not None:
            found.deepstack_features = [(feature,) for feature in found.deepstack_features]
        return found

    def compute_3d_position_ids(self: Any, input_ids: Any, **kwargs: Any) -> Any:
        from porter.frontends import picture_positions  # noqa: F401 -- which defines the op

        if not torch.compiler.is_compiling() or kwargs.get("image_grid_thw") is None:
            self.rope_deltas = None
            return inner_class.compute_3d_position_ids(self, input_ids=input_ids, **kwargs)
        return torch.ops.porter.picture_positions(input_ids, token, ROWS, COLUMNS)

    def _deepstack_process(self: Any, hidden_states: Any, places: Any, features: Any) -> Any:
        where = places[..., None].expand_as(hidden_states)
        return hidden_states + torch.zeros_like(hidden_states).masked_scatter(where, features)

    decoder = getattr(inner, "language_model", None)
    if hasattr(decoder, "_deepstack_process"):  # spelled with as many rows as there are places
        derive(decoder, _deepstack_process)
    derive(module, forward)
    derive(inner, get_image_features, compute_3d_position_ids)
