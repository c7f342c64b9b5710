"""torch's own samples for every op of its database, in float32; random, sparse and empty ones left out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

import torch

from benchmarks.zoo.bound import bound
from benchmarks.zoo.case import Built, Case

PRELOAD = ("torch.testing._internal.common_methods_invocations",)
#: Samples of each op, from the first on.
SAMPLES = 4
#: Ops that draw random numbers, which no inference graph holds.
RANDOM = {
    "bernoulli", "cauchy", "exponential", "geometric", "log_normal", "multinomial", "normal", "rand_like", "randint",
    "randint_like", "randn", "randn_like", "uniform", "nn.functional.dropout", "nn.functional.dropout2d",
    "nn.functional.dropout3d", "nn.functional.alpha_dropout", "nn.functional.feature_alpha_dropout", "empty", "empty_like",
    "new_empty", "new_empty_strided", "empty_strided", "empty_permuted", "nn.functional.fractional_max_pool2d",
    "nn.functional.fractional_max_pool3d",
}  # fmt: skip


def cases() -> Iterator[Case]:
    from torch.testing._internal.common_methods_invocations import op_db

    for op in op_db:
        if op.name in RANDOM or torch.float32 not in op.supported_dtypes("cpu"):
            continue
        for number, sample in enumerate(_samples(op)):
            if _is_dense(sample):
                yield Case(f"{op.formatted_name}-{number}", partial(build, op, number))


def build(op: Any, number: int) -> Built:
    sample = _samples(op)[number]
    return bound(op.op, (sample.input, *sample.args), sample.kwargs)


def _samples(op: Any) -> list[Any]:
    torch.manual_seed(0)
    return list(islice(op.sample_inputs("cpu", torch.float32), SAMPLES))


def _is_dense(sample: Any) -> bool:
    items = torch.utils._pytree.tree_leaves((sample.input, sample.args, sample.kwargs))
    tensors = [item for item in items if isinstance(item, torch.Tensor)]
    dense = all(x.layout == torch.strided and x.numel() for x in tensors)
    return bool(tensors) and dense
