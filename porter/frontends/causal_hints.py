"""torch.nn's transformers look into a mask whether it is causal, which a graph can't; the answer only makes them faster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.modules.transformer as transformers


@contextmanager
def given_hints() -> Iterator[None]:
    """A mask is causal where the caller says so, and else goes as it is; undone at the end."""
    plain = transformers._detect_is_causal_mask

    def detect(mask: Any, is_causal: bool | None = None, size: int | None = None) -> bool:
        return is_causal is True

    transformers._detect_is_causal_mask = detect
    try:
        yield
    finally:
        transformers._detect_is_causal_mask = plain
