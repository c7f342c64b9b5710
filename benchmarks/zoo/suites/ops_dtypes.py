"""torch's own samples for every op of its database, in the other types that inference graphs hold."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.zoo.case import Case
from benchmarks.zoo.suites.ops import LEFT_OUT, PRELOAD, build, is_held, samples

__all__ = ["PRELOAD", "cases"]
DTYPES = (
    torch.int64, torch.int32, torch.uint8, torch.bool, torch.float16, torch.bfloat16, torch.complex64
)  # fmt: skip
#: Samples of each op and type, from the first on.
SAMPLES = 2
#: Whole numbers that are equal: which of them comes first is unspecified in torch.
TIES = {"topk", "kthvalue", "argsort", "sort", "msort"}


def cases() -> Iterator[Case]:
    from torch.testing._internal.common_methods_invocations import op_db

    for op in op_db:
        for dtype in DTYPES:
            if op.name in LEFT_OUT or dtype not in op.supported_dtypes("cpu"):
                continue
            if op.name in TIES and not dtype.is_floating_point:
                continue
            name = f"{op.formatted_name}-{str(dtype).removeprefix('torch.')}"
            for number, sample in enumerate(samples(op, dtype, SAMPLES)):
                if is_held(sample):
                    yield Case(f"{name}-{number}", partial(build, op, number, dtype, SAMPLES))
