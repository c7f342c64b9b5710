"""One row of the op tables, and how it is judged: against float64, with the budget of docs on validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from lowering.evaluate import lower, run, to_numpy

from porter.validate.budget import budget, margin
from porter.validate.metrics import difference

PROBES = (1.0, 1e-3, 1e-2, 8.0)


@dataclass(frozen=True)
class Case:
    """An op on sample inputs.

    `inputs` are shapes (filled with normal numbers) or tensors; `axes` are the first input's that are symbolic in a
    second export, run at sizes larger by `grow`. `n` is the length of the sums, `kappa` the conditioning.
    """

    name: str
    function: Callable[..., Any]
    inputs: Sequence[Any]
    axes: tuple[int, ...] = ()
    grow: int = 1
    n: int = 1
    kappa: float = 1.0
    probes: tuple[float, ...] = PROBES
    count: int | None = None  # how many of the outputs are compared
    xfail: str = ""  # why it must fail today; strict

    def __str__(self) -> str:
        return self.name

    def module(self) -> torch.nn.Module:
        return (
            self.function
            if isinstance(self.function, torch.nn.Module)
            else _Function(self.function)
        )


class _Function(torch.nn.Module):
    def __init__(self, function: Callable[..., Any]):
        super().__init__()
        self.function = function

    def forward(self, *args: torch.Tensor) -> Any:
        return self.function(*args)


def check(case: Case) -> None:
    """Fixed sizes at every probe; then symbolic ones, at the sizes of the export and at others."""
    torch.manual_seed(0)
    module = _with_random_statistics(case.module()).eval()
    inputs = tuple(_tensor(item) for item in case.inputs)
    lowered = lower(module, inputs)
    for scale in case.probes:
        compare(case, module, lowered, _scaled(inputs, scale))
    if not case.axes:
        return
    lowered = lower(module, inputs, [set(case.axes)] + [None] * (len(inputs) - 1))
    assert lowered.program.dims, f"{case}: torch fixed the sizes that should be symbolic"
    compare(case, module, lowered, inputs)
    symbolic = {
        axis
        for axis, size in enumerate(lowered.program.inputs[0].shape)
        if not isinstance(size, int)
    }
    shape = [size + case.grow * (axis in symbolic) for axis, size in enumerate(inputs[0].shape)]
    first = (
        torch.randn(shape)
        if inputs[0].is_floating_point()
        else torch.randint(0, 3, shape, dtype=inputs[0].dtype)
    )
    compare(case, module, lowered, (first, *inputs[1:]))


def compare(
    case: Case, module: torch.nn.Module, lowered: Any, inputs: tuple[torch.Tensor, ...]
) -> None:
    with torch.no_grad():
        single = _flat(module(*deepcopy(inputs)))
        double = _flat(
            deepcopy(module).double()(
                *(x.double() if x.is_floating_point() else x for x in deepcopy(inputs))
            )
        )
    result = run(lowered, list(inputs))
    count = case.count or len(single)
    assert len(result) >= count
    for mine, ours, truth in list(zip(result, single, double, strict=False))[:count]:
        array = to_numpy(mine)
        expected = str(ours.dtype).removeprefix("torch.").replace("float64", "float32")
        assert str(mine.dtype).removeprefix("mlx.core.").removesuffix("_") == expected
        reference = truth.numpy() if truth.is_floating_point() else ours.numpy()
        own = difference(
            ours.float().numpy() if ours.is_floating_point() else ours.numpy(), reference
        )
        found = difference(array, reference)
        assert not found.problem, f"{case}: {found.problem}"
        dtype = str(ours.dtype).removeprefix("torch.")
        allowed = budget(own.rms_rel, case.n, dtype, kappa=case.kappa)
        assert margin(found.rms_rel, allowed) <= 1, (
            f"{case}: error {found.rms_rel:.2e}, allowed {allowed:.2e}"
        )


def _tensor(item: Any) -> torch.Tensor:
    return torch.randn(item) if isinstance(item, (tuple, list)) else item


def _scaled(inputs: tuple[torch.Tensor, ...], scale: float) -> tuple[torch.Tensor, ...]:
    return tuple(x * scale if x.is_floating_point() and scale != 1 else x for x in inputs)


def _flat(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    return [tensor for item in output for tensor in _flat(item)]


def _with_random_statistics(module: torch.nn.Module) -> torch.nn.Module:
    """Norms start as the identity, which would hide swapped parameters."""
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=1.0 if name.endswith("weight") else 0.0)
    return module


def integers(
    *shape: int, low: int = -9, high: int = 9, dtype: torch.dtype = torch.int64
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(low, high, shape, generator=generator, dtype=dtype)


def bools(*shape: int) -> torch.Tensor:
    return integers(*shape, low=0, high=2).bool()


def positive(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(0.1, 3, shape).astype(np.float32))


def rows(cases: Sequence[Case]) -> list[Any]:
    """The table as pytest's parameters."""
    marks = [
        pytest.mark.xfail(reason=case.xfail, strict=True) if case.xfail else () for case in cases
    ]
    return [
        pytest.param(case, marks=mark, id=case.name)
        for case, mark in zip(cases, marks, strict=True)
    ]
