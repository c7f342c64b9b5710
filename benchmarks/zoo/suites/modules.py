"""torch's own samples for every module of torch.nn, in eval mode and float32."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.zoo.bound import bound
from benchmarks.zoo.case import Built, Case

PRELOAD = ("torch.testing._internal.common_modules",)


def cases() -> Iterator[Case]:
    from torch.testing._internal.common_modules import module_db

    for info in module_db:
        for number in range(len(_samples(info))):
            yield Case(f"{info.name}-{number}", partial(build, info, number))


def build(info: Any, number: int) -> Built:
    sample = _samples(info)[number]
    made, given = sample.constructor_input, sample.forward_input
    module = info.module_cls(*made.args, **made.kwargs).eval()
    with torch.no_grad():
        module(*given.args, **given.kwargs)  # a lazy module gets its parameters
    return bound(module, given.args, given.kwargs)


def _samples(info: Any) -> list[Any]:
    options = {"dtype": torch.float32, "requires_grad": False, "training": False}
    torch.manual_seed(0)
    return list(info.module_inputs_func(info, device="cpu", **options))
