"""Example inputs of a decoder whose pictures come with their sizes: a port takes pictures of one size, any number of them.

The source goes through the sizes picture by picture, which no graph can hold; see one_picture.py.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
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
from porter.sources.huggingface_shapes import image_of, setting
from porter.sources.one_picture import NotOnePicture, of_every_picture

#: Rows and columns of a picture's features, which differ so that they are not taken for each other.
ROWS, COLUMNS = 2, 3
#: What a processor gives beside the patches of a picture: how many it has (with frames, or without), or where each is.
GRIDS = {
    "image_grid_thw": "thw", "image_grid_hw": "hw", "spatial_shapes": "hw", "target_sizes": "hw",
    "image_position_ids": "each",
}  # fmt: skip
_MERGES = (
    "spatial_merge_size", "merge_size", "merge_kernel_size", "downsample_factor", "pooling_kernel_size",
)  # fmt: skip
SHOWN = "pixel_attention_mask"
_ONE = "the graph is that of one size"
_METHOD, _POSITIONS = "get_image_features", "compute_3d_position_ids"


@dataclass(frozen=True, slots=True)
class Form:
    """How one picture may be given: the shape of its pixels, and what tells its size."""

    shape: tuple[int, ...]
    sizes: dict[str, list[Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def picture(self) -> tuple[int, ...]:
        """The shape without axes for one sample of one picture."""
        first = next(axis for axis, size in enumerate(self.shape) if size > 1)
        return self.shape[first:]

    def given(self, pixels: torch.Tensor) -> torch.Tensor:
        """All `pixels`, a picture a row, as a processor gives them."""
        lead = self.shape[:1] if self.shape[0] > 1 else (1,)
        return pixels.reshape(pixels.shape[0] * lead[0], *self.shape[1:])

    def repeated(self, count: int) -> dict[str, torch.Tensor]:
        """The sizes of so many pictures."""
        found = {name: torch.tensor(value) for name, value in self.sizes.items()}
        return {name: x.repeat(count, *[1] * (x.ndim - 1)) for name, x in found.items()}


def sized_inputs(
    module: Any,
    config: Any,
    token: int,
    ids: torch.Tensor,
    kinds: str | None,
    generator: torch.Generator,
) -> tuple[Inputs, tuple[str, ...]] | str:
    """Ids (2, length) with three pictures, their pixels (3, ...), and what the user should hear; or why there are none.

    `kinds` is the input that tells features from words, where there is one. The module takes just these from then on.
    """
    owner = next((m for m in (getattr(module, "model", None), module) if hasattr(m, _METHOD)), None)
    if owner is None:
        return "it has no get_image_features"
    takes = inspect.signature(getattr(owner, _METHOD)).parameters
    parts = (module, owner, getattr(owner, "language_model", None))
    plain = [(part, type(part)) for part in dict.fromkeys(parts) if part is not None]
    reason = "porter knows no shape of its pixel_values"
    for form in forms(config, takes):
        pixels = torch.randn((PICTURES, *form.picture), generator=generator)
        _of_one_form(module, owner, token, kinds, form)
        try:
            found = dry_run(owner, _METHOD, {"pixel_values": pixels})
            count, rest = divmod(features(found), PICTURES)
            values = {
                "input_ids": texts_with_pictures(ids, token, count),
                "pixel_values": pixels,
            }
            if _stands_elsewhere(owner, token, values["input_ids"], form):
                reason = "positions are counted in a way of its own"
            elif not rest and count and runs(module, values):
                axes = {"input_ids": {0: "batch", 1: "length"}, "pixel_values": {0: "pictures"}}
                return (values, axes), form.notes
        except NotOnePicture as error:
            reason = str(error)
        except Exception:  # noqa: BLE001, S110 -- the source's own: another form
            pass
        for part, cls in plain:
            part.__class__ = cls
    return reason


def forms(config: Any, takes: Any) -> Iterator[Form]:
    """The likely forms of a picture for a method that takes these parameters, the likeliest first."""
    vision = getattr(config, "vision_config", None) or config
    patch, merge = setting(vision, "patch_size"), setting(config, *_MERGES) or 1
    patch = patch[0] if isinstance(patch, (tuple, list)) else patch
    merge = merge[0] if isinstance(merge, (tuple, list)) else merge
    channels, side, _ = image_of(config)
    if isinstance(patch, int) and isinstance(merge, int):
        grid = (ROWS * merge, COLUMNS * merge)
        size, count = (patch * grid[0], patch * grid[1]), grid[0] * grid[1]
        told = _told(takes, grid, size, merge)
        note = f"pictures have {grid[0]} x {grid[1]} patches of {patch} x {patch} pixels"
        if any(name in takes for name in GRIDS):
            notes = (f"{note}, each picture a row of pixel_values: {_ONE}",)
            frames = setting(vision, "temporal_patch_size", "patch_temporal") or 1
            padded = (
                SHOWN in takes or "image_position_ids" in takes
            )  # to as many as any picture has
            shown = {SHOWN: [[1] * count]} if SHOWN in takes else {}
            rows: list[tuple[int, ...]] = [(channels * frames * patch * patch,)]
            if (
                "target_sizes" not in takes
            ):  # which tell of patches side by side in one long picture
                rows.append((channels, patch, patch))
            for row in rows:
                yield Form((1, count, *row) if padded else (count, *row), told | shown, notes)
            return
        yield Form((1, channels, *size), told, (f"{note}: {_ONE}",))
    yield Form((1, channels, side, side), _told(takes, (1, 1), (side, side), 1))
    told = _told(takes, (1, 1), (side, side), 1)
    masked = getattr(takes.get(SHOWN), "default", None) is inspect.Parameter.empty
    masks: list[Any] = [[[True]], [[[[1] * side] * side]]]  # of a picture, or of its pixels
    for known in [told | {SHOWN: mask} for mask in masks] if masked else [told]:
        yield Form((1, 1, channels, side, side), known)
    for wide in (2, 1):
        note = (
            f"pictures of {side} x {wide * side} pixels come in {wide + 1} parts of {side} x {side}"
        )
        told = _told(takes, (1, wide), (side, wide * side), 1)
        yield Form((1, wide + 1, channels, side, side), told, (f"{note}: {_ONE}",))
    if isinstance(patch, int):
        yield Form(
            (1, ROWS * COLUMNS, channels * patch * patch), _told(takes, (ROWS, COLUMNS), (0, 0), 1)
        )


def _told(
    takes: Any, grid: tuple[int, int], size: tuple[int, int], merge: int
) -> dict[str, list[Any]]:
    """What of a picture's sizes the method takes, for one picture."""
    found: dict[str, list[Any]] = {}
    each = [[column, row] for row in range(grid[0]) for column in range(grid[1])]
    orders: dict[str, list[Any]] = {"thw": [1, *grid], "hw": [*grid], "each": each}
    for name, order in GRIDS.items():
        if name in takes:
            found[name] = [orders[order]]
    if "image_sizes" in takes:
        found["image_sizes"] = [[*size]]
    if "image_merge_sizes" in takes:
        found["image_merge_sizes"] = [merge]
    return found


def _of_one_form(module: Any, owner: Any, token: int, kinds: str | None, form: Form) -> None:
    """The module takes ids and pictures of this form alone, and returns logits alone."""
    outer_class, owner_class = type(module), type(owner)
    placed = hasattr(owner, _POSITIONS)

    @functools.wraps(outer_class.forward)
    def forward(self: Any, input_ids: Any, pixel_values: Any = None) -> Any:
        given: dict[str, Any] = {}
        if pixel_values is not None and torch.compiler.is_compiling():
            given = {"pixel_values": pixel_values} | ({"image_grid_thw": ()} if placed else {})
        elif pixel_values is not None:
            given = {"pixel_values": form.given(pixel_values)}
            given |= form.repeated(pixel_values.shape[0])
        if pixel_values is not None and kinds is not None:
            given[kinds] = (input_ids == token).int()
        return {"logits": outer_class.forward(self, input_ids=input_ids, **given)["logits"]}

    def get_image_features(self: Any, pixel_values: Any, *args: Any, **kwargs: Any) -> Any:
        plain = functools.partial(owner_class.get_image_features, self)
        if not torch.compiler.is_compiling():
            return plain(pixel_values, *args, **kwargs)
        chosen = {name: value for name, value in kwargs.items() if name not in form.sizes}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        return of_every_picture(
            functools.partial(plain, **chosen), pixel_values, form.shape, **form.sizes
        )

    def compute_3d_position_ids(self: Any, input_ids: Any, **kwargs: Any) -> Any:
        from porter.frontends import picture_positions  # noqa: F401 -- which defines the op

        if not torch.compiler.is_compiling() or kwargs.get("image_grid_thw") is None:
            self.rope_deltas = None
            return owner_class.compute_3d_position_ids(self, input_ids=input_ids, **kwargs)
        return torch.ops.porter.picture_positions(input_ids, token, ROWS, COLUMNS)

    def _deepstack_process(self: Any, hidden_states: Any, places: Any, features: Any) -> Any:
        where = places[..., None].expand_as(hidden_states)
        return hidden_states + torch.zeros_like(hidden_states).masked_scatter(where, features)

    decoder = getattr(owner, "language_model", None)
    if hasattr(decoder, "_deepstack_process"):  # spelled with as many rows as there are places
        derive(decoder, _deepstack_process)
    own = [get_image_features, *([compute_3d_position_ids] if placed else [])]
    if owner is module:
        derive(module, forward, *own)
    else:
        derive(module, forward)
        derive(owner, *own)


def _stands_elsewhere(owner: Any, token: int, ids: torch.Tensor, form: Form) -> bool:
    """Whether the source counts the positions of a text with pictures in another way than porter does."""
    if not hasattr(owner, _POSITIONS):
        return False
    from porter.frontends.picture_positions import positions

    count = int((ids == token).sum()) // (ROWS * COLUMNS)
    try:
        theirs, _ = owner.get_rope_index(
            ids, mm_token_type_ids=(ids == token).int(), **form.repeated(count)
        )
    except Exception:  # noqa: BLE001 -- it takes something else
        return True
    return not torch.equal(theirs, positions(ids, token, ROWS, COLUMNS))
