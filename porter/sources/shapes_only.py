"""Builds modules of which only shapes are asked: what is large is on the meta device, where nothing is computed."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._device import _device_constructors

#: Tensors with more elements are put on meta; what has so few going in is computed without asking.
_LARGE, _TINY = 1 << 18, 1 << 10


class ShapesOnly(torch.overrides.TorchFunctionMode):
    """Leaves out initialisation and the values of large tables; small tensors are real, since constructors read some of them.

    Initialisation costs most of the time of building a model on meta, and a table of relative positions grows with the
    fourth power of the image's side. A constructor that reads a value of a large table raises, as on any meta tensor.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        kwargs = kwargs or {}
        if name == "__get__":  # of an attribute
            return func(*args, **kwargs)
        writes = name.endswith("_") and not name.endswith("__")
        written = (args[0] if args else kwargs.get("tensor")) if writes else None
        if isinstance(written, torch.Tensor) and written.is_meta:
            return written
        tensors = _tensors_in(args, kwargs)
        on_meta = sum(t.is_meta for t in tensors)
        creates = not tensors and func in _device_constructors()
        if on_meta == len(tensors) and not creates:
            return func(*args, **kwargs)
        if not creates and not on_meta and sum(t.numel() for t in tensors) <= _TINY:
            return func(*args, **kwargs)
        if creates:
            probe, named = args, kwargs | {"device": "meta"}
        else:
            probe, named = pytree.tree_map_only(
                torch.Tensor, lambda t: t.to("meta"), (args, kwargs)
            )
        if on_meta:
            return func(*probe, **named)
        try:
            result = func(*probe, **named)
        except Exception:  # noqa: BLE001 -- a value is read, or a device is named: it is to be real
            return func(*args, **kwargs)
        large = isinstance(result, torch.Tensor) and result.numel() > _LARGE
        return result if large else func(*args, **kwargs)


def _tensors_in(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """Also those in lists, tuples and dicts; asked at every call, so without torch's general trees."""
    found: list[torch.Tensor] = []
    for item in (*args, *kwargs.values()):
        if isinstance(item, torch.Tensor):
            found.append(item)
        elif isinstance(item, (list, tuple)):
            found += _tensors_in(tuple(item), {})
        elif isinstance(item, dict):
            found += _tensors_in((), item)
    return found
