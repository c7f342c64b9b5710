"""A vision tower that reads all patches in one row, traced for pictures of one grid: for any number of them."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import torch


class OneGrid:
    """While it is entered, what transformers works out from `grids` is that of one grid, as often as there are rows.

    Its towers ask functions of transformers.vision_utils for positions, windows and ends of sequences, which go through the
    grids one by one; attention then takes each picture, or each window in it, by itself.
    """

    def __init__(self, tower: Any, grid: tuple[int, int, int], grids: torch.Tensor):
        self.names = vars(sys.modules[type(tower).__module__])
        self.grid, self.grids, self.pictures = grid, grids, grids.shape[0]
        self.patches = grid[0] * grid[1] * grid[2]

    def __enter__(self) -> None:
        own = {
            "get_vision_position_ids": self._repeated,
            "get_vision_interpolation_indices_and_weights": self._repeated,
            "get_vision_attention_seqlens": lambda _: (
                lambda grids, *_, **__: (self._ends(grids), None)
            ),
            "get_vision_cu_seqlens": lambda _: lambda grids, *_, **__: self._ends(grids),
            "get_vision_window_index": self._windows,
        }
        replaced = {name: how(self.names[name]) for name, how in own.items() if name in self.names}
        replaced |= {
            "get_max_seqlen": lambda *_, **__: None,
            "is_flash_attention_requested": lambda *_, **__: True,
            "ALL_ATTENTION_FUNCTIONS": self,
        }
        self.before = {name: self.names[name] for name in replaced if name in self.names}
        self.names.update({name: replaced[name] for name in self.before})

    def __exit__(self, *_: object) -> None:
        self.names.update(self.before)

    def _of_one(self, plain: Any, grids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the function gives for one picture, which is a constant."""
        from torch.utils._python_dispatch import _disable_current_modes

        self._check(grids)
        kwargs.pop("kwargs", None)
        with _disable_current_modes():
            return plain(torch.tensor([self.grid]), *args, **kwargs)

    def _repeated(self, plain: Any) -> Any:
        def rows(grids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            found = self._of_one(plain, grids, *args, **kwargs)
            if isinstance(found, tuple):
                return tuple(x.repeat(self.pictures, 1) for x in found)
            return found.repeat(self.pictures, 1)

        return rows

    def _check(self, grids: torch.Tensor) -> None:
        if (
            grids is not self.grids
        ):  # rows and columns in turn, say: what they are can't be read here
            raise ValueError("the tower works with other grids than it was given")

    def _ends(self, grids: torch.Tensor) -> torch.Tensor:
        """Where each picture ends."""
        self._check(grids)
        return torch.arange(self.pictures + 1) * self.patches

    def _windows(self, plain: Any) -> Any:
        def windows(grids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            order, ends = self._of_one(plain, grids, *args, **kwargs)
            starts = torch.arange(self.pictures)[:, None] * len(order)
            return (starts + order).flatten(), sorted({*ends.tolist()})

        return windows

    def get_interface(self, *_: Any) -> Any:
        """The attention that a tower asks for."""
        return self._attention

    def _attention(
        self, module: Any, query: Any, key: Any, value: Any, *, scaling: float, cu_seq_lens_q: Any, **_: Any
    ) -> tuple[Any, None]:  # fmt: skip
        """Of (1, heads, tokens, features) within each picture, or the windows of it that end at `cu_seq_lens_q`."""
        ends = cu_seq_lens_q if isinstance(cu_seq_lens_q, list) else [0, self.patches]
        q, k, v = (
            x.squeeze(0).unflatten(1, (-1, self.patches)).transpose(0, 1)
            for x in (query, key, value)
        )
        bounds = [slice(*pair) for pair in pairwise(ends)]
        parts = [
            torch.nn.functional.scaled_dot_product_attention(
                q[:, :, part], k[:, :, part], v[:, :, part], scale=scaling
            )
            for part in bounds
        ]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
        return whole.transpose(1, 2).flatten(0, 1).unsqueeze(0), None
