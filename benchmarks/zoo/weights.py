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


@torch.no_grad()
def unit_outputs(module: torch.nn.Module, args: tuple) -> None:
    """Scales each convolution and linear layer so that its first output has no mean and varies by one (Mishkin 2016).

    Random layers in a row let scores saturate: detectors then keep no box, or any.
    """
    done: set[torch.nn.Module] = set()

    def scale(layer: torch.nn.Module, _: object, output: torch.Tensor) -> torch.Tensor | None:
        if layer in done or output.numel() < 2:
            return None
        done.add(layer)
        spread, mean = output.std().clamp(min=1e-6), output.mean()
        if layer.bias is None:
            mean = mean * 0
        else:
            layer.bias.sub_(mean)
        for parameter in layer.parameters():
            parameter.div_(spread)
        return (output - mean) / spread

    layers = [m for m in module.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    hooks = [layer.register_forward_hook(scale) for layer in layers]
    module(*args)
    for hook in hooks:
        hook.remove()
