"""Functions of torchvision that loop or branch on their data: an export takes each as one op.

torch.export can't follow them, and what they compute is well defined: `porter/lowering/detection.py` has their lowerings.
"""

from __future__ import annotations

import builtins
import importlib
import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import ShapeEnv

#: Where each stands, and its schema.
WHOLE = {
    "batched_nms": (
        "torchvision.ops.boxes",
        "(Tensor boxes, Tensor scores, Tensor idxs, float iou_threshold) -> Tensor",
    ),
    "heatmaps_to_keypoints": (
        "torchvision.models.detection.roi_heads",
        "(Tensor maps, Tensor rois) -> (Tensor, Tensor)",
    ),
    "paste_masks_in_image": (
        "torchvision.models.detection.roi_heads",
        "(Tensor masks, Tensor boxes, SymInt[] img_shape, int padding=1) -> Tensor",
    ),
}
_LIBRARY = torch.library.Library("porter", "FRAGMENT")
_replaced: dict[str, Any] = {}


@contextmanager
def whole_functions() -> Iterator[None]:
    """Puts the ops in the functions' places, wherever they were imported to; undone at the end."""
    places: list[tuple[dict[str, Any], Any]] = []
    for name, (module, _) in WHOLE.items():
        original = vars(sys.modules[module]).get(name) if module in sys.modules else None
        if original is None:
            continue
        _replaced[name] = original
        tables = [vars(m) for m in list(sys.modules.values()) if hasattr(m, "__dict__")]
        places += [(table, original) for table in tables if table.get(name) is original]
    try:
        for table, original in places:
            table[original.__name__] = getattr(torch.ops.porter, original.__name__)
        yield
    finally:
        for table, original in places:
            table[original.__name__] = original


@contextmanager
def symbolic_lengths() -> Iterator[list[Any]]:
    """len() of a tensor gives its first size though it be a symbol; undone at the end. Yields the symbols so given."""
    plain = builtins.len
    given: list[Any] = []

    def length(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.ndim:
            return plain(value)
        if isinstance(value.shape[0], torch.SymInt):
            given.append(value.shape[0])
        return value.shape[0]

    builtins.len = length
    try:
        yield given
    finally:
        builtins.len = plain


class NotJoined(TypeError):
    """Something else than joining was done to the rows of an array whose number is a symbol.

    A TypeError, which list() takes for a length that is not known.
    """


class _Row:
    """A row of an array, of `count` when traced, which the source only joins with all the others again."""

    def __init__(self, array: torch.Tensor, place: int, count: int):
        self.array, self.place, self.count = array, place, count

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        rows, *others = args
        along = others[0] if others else (kwargs or {}).get("dim", 0)
        whole = function is torch.cat and all(
            isinstance(row, _Row) and row.array is rows[0].array and row.place == place
            for place, row in enumerate(rows)
        )
        if not whole or along != 0 or len(rows) != rows[0].count:
            raise NotJoined(f"{function} takes some rows of an array")
        return rows[0].array.flatten(0, 1)

    def __getattr__(self, name: str) -> Any:
        raise NotJoined(f"{name} is read of a row of an array")


@contextmanager
def joined_rows() -> Iterator[None]:
    """`torch.cat(list(x))` joins however many rows there are, pictures for one; undone at the end.

    Raises NotJoined in an export that does anything else with the rows.
    """
    plain, plain_length = torch.Tensor.__iter__, torch.Tensor.__len__

    def symbolic(array: torch.Tensor) -> bool:
        return array.ndim > 1 and isinstance(array.shape[0], torch.SymInt)

    def rows(self: torch.Tensor) -> Any:
        caller = sys._getframe(1)
        line = linecache.getline(caller.f_code.co_filename, caller.f_lineno)
        if not symbolic(self) or "list(" not in line:
            return plain(self)
        count = self.shape[0].node.hint  # type: ignore[attr-defined]
        return iter([_Row(self, place, count) for place in range(count)])

    def length(self: torch.Tensor) -> int:
        if symbolic(self):
            raise NotJoined("the rows of an array are counted")
        return plain_length(self)

    torch.Tensor.__iter__, torch.Tensor.__len__ = rows, length  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.__iter__, torch.Tensor.__len__ = plain, plain_length  # type: ignore[method-assign]


@contextmanager
def none_is_empty() -> Iterator[None]:
    """How many elements a condition leaves counts as two or more, where the source branches on it; undone at the end."""
    plain = ShapeEnv._constrain_range_for_size

    def constrained(self: ShapeEnv, a: Any, min: Any = None, max: Any = None) -> None:  # noqa: A002
        least = 2 if max is None or max > 2 else max
        plain(self, a, least if min is None or min < least else min, max)

    ShapeEnv._constrain_range_for_size = constrained  # type: ignore[method-assign]
    try:
        yield
    finally:
        ShapeEnv._constrain_range_for_size = plain  # type: ignore[method-assign]


def _kernel(name: str) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        found = _replaced.get(name) or getattr(importlib.import_module(WHOLE[name][0]), name)
        result = found(*arguments)
        copies = [t.clone() for t in (result if isinstance(result, tuple) else (result,))]
        return tuple(copies) if isinstance(result, tuple) else copies[0]

    return run


def _batched_nms(boxes: Any, scores: Any, idxs: Any, iou_threshold: Any) -> Any:
    count = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty(count, dtype=torch.int64)


def _heatmaps_to_keypoints(maps: Any, rois: Any) -> Any:
    return maps.new_empty(rois.shape[0], maps.shape[1], 3), maps.new_empty(
        rois.shape[0], maps.shape[1]
    )


def _paste_masks_in_image(masks: Any, boxes: Any, img_shape: Any, padding: Any = 1) -> Any:
    return masks.new_empty(masks.shape[0], 1, *img_shape)


for _name, (_, _schema) in WHOLE.items():
    _LIBRARY.define(_name + _schema)
    _LIBRARY.impl(_name, _kernel(_name), "CPU")
    torch.library.register_fake(f"porter::{_name}", globals()[f"_{_name}"], lib=_LIBRARY)
