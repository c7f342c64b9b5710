"""nn.TransformerEncoder in inference: tokens of padding are 0, as torch's nested tensors leave them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def padded_tokens() -> Iterator[None]:
    """Does so where torch takes nested tensors, which no graph holds. Undone at the end."""
    plain = nn.TransformerEncoder.forward

    def forward(
        self: nn.TransformerEncoder,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        if src_key_padding_mask is None or mask is not None or not _is_nested(self, src):
            return plain(self, src, mask, src_key_padding_mask, is_causal)
        norm, self._modules["norm"] = self.norm, None  # which comes behind the padding
        try:
            output = plain(self, src, mask, src_key_padding_mask, is_causal)
        finally:
            self._modules["norm"] = norm
        output = output.masked_fill(src_key_padding_mask.bool()[..., None], 0.0)
        return output if norm is None else norm(output)

    nn.TransformerEncoder.forward = forward  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        nn.TransformerEncoder.forward = plain  # type: ignore[method-assign]


def _is_nested(encoder: Any, src: Tensor) -> bool:
    """Whether torch's own forward would; that padding stands behind the tokens is taken for granted."""
    return src.ndim == 3 and encoder.use_nested_tensor and not encoder.layers[0].training
