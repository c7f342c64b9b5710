"""Shapes of results that torch's own fake tensors refuse to tell, so that torch.export takes the op."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_impls import op_implementations_dict

aten = torch.ops.aten


def register_missing_fakes() -> None:
    """Registers them for good, where torch has none itself."""
    for op in (aten._ctc_loss.default, aten._ctc_loss.Tensor):
        op_implementations_dict.setdefault(op, _ctc_loss)


def _ctc_loss(
    mode: Any, op: Any, log_probs: Tensor, targets: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, Tensor]:
    """A loss for each sample, and the forward variables, which only the gradient reads: of as many labels as there can be."""
    samples, states = log_probs.shape[1:-1], 2 * targets.shape[-1] + 1
    with mode:
        variables = log_probs.new_empty(*samples, log_probs.shape[0], states)
        return log_probs.new_empty(samples), variables
