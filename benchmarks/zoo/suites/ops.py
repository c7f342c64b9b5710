"""torch's own samples for every op of its database, in float32; what LEFT_OUT names, sparse and empty ones left out."""

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
_RANDOM = "draws random numbers, which MLX and torch draw differently"
_UNSET = "its elements are whatever the memory held"
_NUMBER = "its result is a Python number or a truth value, no array"
#: Ops that are left out, and why.
LEFT_OUT = {
    **dict.fromkeys((
        "bernoulli", "cauchy", "exponential", "geometric", "log_normal", "multinomial", "normal", "rand_like", "randint",
        "randint_like", "randn", "randn_like", "uniform", "svd_lowrank", "pca_lowrank", "nn.functional.rrelu",
        "nn.functional.dropout", "nn.functional.dropout2d", "nn.functional.dropout3d", "nn.functional.alpha_dropout",
        "nn.functional.feature_alpha_dropout", "nn.functional.fractional_max_pool2d", "nn.functional.fractional_max_pool3d",
    ), _RANDOM),
    **dict.fromkeys(
        ("empty", "empty_like", "new_empty", "new_empty_strided", "empty_strided", "empty_permuted"), _UNSET
    ),
    **dict.fromkeys(("item", "equal", "allclose"), _NUMBER),
    **dict.fromkeys(("jiterator_unary", "jiterator_binary", "jiterator_4inputs_with_extra_args", "jiterator_2inputs_2outputs",
                     "jiterator_binary_return_by_ref"), "compiles CUDA source"),
    "to_sparse": "MLX has no sparse arrays",
    "chalf": "MLX has no complex numbers of half precision",
}  # fmt: skip


def cases() -> Iterator[Case]:
    from torch.testing._internal.common_methods_invocations import op_db

    for op in op_db:
        if op.name in LEFT_OUT or torch.float32 not in op.supported_dtypes("cpu"):
            continue
        for number, sample in enumerate(samples(op)):
            if is_held(sample):
                yield Case(f"{op.formatted_name}-{number}", partial(build, op, number))


def build(op: Any, number: int, dtype: torch.dtype = torch.float32, count: int = SAMPLES) -> Built:
    sample = samples(op, dtype, count)[number]
    return bound(op.op, (sample.input, *sample.args), sample.kwargs)


def samples(op: Any, dtype: torch.dtype = torch.float32, count: int = SAMPLES) -> list[Any]:
    torch.manual_seed(0)
    return list(islice(op.sample_inputs("cpu", dtype), count))


def is_held(sample: Any) -> bool:
    """Whether it has tensors, all of them dense and none empty, and no dropout, which draws random numbers."""
    if any(sample.kwargs.get(name) for name in ("dropout_p", "dropout")):
        return False
    items = torch.utils._pytree.tree_leaves((sample.input, sample.args, sample.kwargs))
    tensors = [item for item in items if isinstance(item, torch.Tensor)]
    dense = all(x.layout == torch.strided and x.numel() for x in tensors)
    return bool(tensors) and dense
