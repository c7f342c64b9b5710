"""flex_attention as scores, a softmax and a matmul: its functions of a score and its place act on all places at once."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_MODULE = "torch.nn.attention.flex_attention"


@contextmanager
def spelled_attention() -> Iterator[None]:
    """While it lasts, flex_attention is traced op by op, and a block mask holds its function alone; undone at the end."""
    flex: Any = sys.modules.get(_MODULE)
    if flex is None:  # the author's code does not use it
        yield
        return
    changed = {
        "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG": True,  # else it is compiled first
        "flex_attention_hop": _attention,
        "_convert_mask_to_block_mask": lambda *_, **__: (None, None),
        "_create_sparse_block_from_block_mask": _block_mask,
    }
    kept = {name: getattr(flex, name) for name in changed}
    try:
        vars(flex).update(changed)
        yield
    finally:
        vars(flex).update(kept)


def _block_mask(
    blocks: Any, mask_mod: Any, seq_lengths: tuple[Any, Any], *_: Any, **__: Any
) -> Any:
    flex: Any = sys.modules[_MODULE]
    none = torch.zeros(1, 1, 1, dtype=torch.int32)
    return flex.BlockMask(seq_lengths, none, none[..., None], *[None] * 6, mask_mod=mask_mod)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, score_mod: Any, block_mask: tuple[Any, ...], scale: float,
    kernel_options: dict[str, Any], *_: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    flex: Any = sys.modules[_MODULE]
    places = [
        torch.arange(size, device=query.device).view([-1 if i == axis else 1 for i in range(4)])
        for axis, size in enumerate((*query.shape[:3], key.shape[2]))
    ]
    mask_mod = block_mask[-1]
    shown = None if mask_mod is flex.noop_mask else mask_mod(*places)
    groups, nothing = query.shape[1] // key.shape[1], query.new_empty(0)
    if score_mod is flex._identity and not kernel_options.get("OUTPUT_LOGSUMEXP"):
        out = F.scaled_dot_product_attention(
            query, key, value, shown, scale=scale, enable_gqa=groups > 1
        )
        return out, nothing, nothing
    if groups > 1:
        key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
    scores = score_mod(query @ key.transpose(-2, -1) * scale, *places)
    if shown is not None:
        scores = scores.masked_fill(~shown, -math.inf)
    weights = scores.softmax(-1) if shown is None else torch._safe_softmax(scores, -1)
    return weights @ value, scores.logsumexp(-1) / math.log(2), nothing
