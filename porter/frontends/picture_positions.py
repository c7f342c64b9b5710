"""Positions in time, height and width of a text with pictures (M-RoPE, Wang et al. 2024): an export takes them as one op.

Where a token stands depends on how many pictures end before it, which the sources tell by going through the tokens.
"""

from __future__ import annotations

import torch

_LIBRARY = torch.library.Library("porter", "FRAGMENT")


def positions(ids: torch.Tensor, token: int, rows: int, columns: int) -> torch.Tensor:
    """(3, batch, length) of ids (batch, length) in which `token` stands for each of a picture's rows * columns features.

    A word moves on by one. The features of a picture are counted from the place where it starts by their row and column,
    and what follows stands as far behind that place as the picture is high or wide.
    """
    shown = ids == token
    place = (torch.cumsum(shown.to(ids.dtype), dim=1) - 1) % (rows * columns)
    last = torch.where(place == rows * columns - 1, max(rows, columns), 0)
    steps = torch.where(shown, last, 1)
    start = torch.cumsum(steps, dim=1) - steps
    inside = torch.stack([torch.zeros_like(place), place // columns, place % columns])
    return start + torch.where(shown, inside, 0)


def _shapes(ids: torch.Tensor, token: int, rows: int, columns: int) -> torch.Tensor:
    return ids.new_empty(3, *ids.shape)


_LIBRARY.define("picture_positions(Tensor ids, int token, int rows, int columns) -> Tensor")
_LIBRARY.impl("picture_positions", positions, "CPU")
torch.library.register_fake("porter::picture_positions", _shapes, lib=_LIBRARY)
