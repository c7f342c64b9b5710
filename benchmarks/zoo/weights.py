"""Weights as training leaves them: nothing zero, one, or so small that an error behind it would not show."""

from __future__ import annotations

import torch


@torch.no_grad()
def randomize(module: torch.nn.Module, seed: int = 1) -> None:
    """Norm statistics become random, vectors and constants get noise, tiny matrices the size that keeps a signal.

    Many models start with zero biases, heads of 1e-3 and layer scales of 1e-5: their output then hardly depends
    on what lies before, and a wrong port agrees.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator).to(like.dtype)

    for layer in module.modules():
        mean, variance = getattr(layer, "running_mean", None), getattr(layer, "running_var", None)
        if isinstance(mean, torch.Tensor) and isinstance(variance, torch.Tensor):
            mean.copy_(normal(mean) * 0.3)
            variance.copy_(torch.rand(variance.shape, generator=generator) + 0.5)
    for parameter in module.parameters():
        if not parameter.is_floating_point() or parameter.numel() == 0:
            continue
        if parameter.ndim < 2 or bool((parameter == parameter.flatten()[0]).all()):
            parameter.add_(normal(parameter) * 0.1)
            continue
        wanted = (parameter.numel() / parameter.shape[0]) ** -0.5
        if float(parameter.std()) < wanted / 2:
            parameter.copy_(normal(parameter) * wanted)
