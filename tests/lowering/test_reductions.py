"""Reductions, softmax, cumulative sums and sorting against torch."""

import pytest
import torch
from lowering.check import Case, bools, check, integers, positive, rows

X = (2, 3, 5)
INT = integers(2, 3, 5)

CASES = [
    Case("sum", torch.sum, [X], n=30),
    Case("sum-axis", lambda x: x.sum(-1), [X], axes=(0, 2), n=8),
    Case("sum-axes-keep", lambda x: x.sum((0, -1), keepdim=True), [X], axes=(0, 2), n=12),
    Case("sum-bool", lambda x: x.sum(-1), [bools(3, 4)]),
    Case("sum-int", lambda x: x.sum(-1), [INT]),
    Case("sum-int8", lambda x: x.sum(), [integers(50, low=-100, high=100, dtype=torch.int8)]),
    Case("sum-dtype", lambda x: x.sum(-1, dtype=torch.float32), [INT]),
    Case("mean", torch.mean, [X], n=30),
    Case("mean-axes", lambda x: x.mean((2, 1)), [X], axes=(0, 2), n=20),
    Case("prod", lambda x: x.prod(), [X], kappa=4),
    Case("prod-axis", lambda x: x.prod(1), [X]),
    Case("amax", lambda x: x.amax((0, 2)), [X], axes=(0, 2)),
    Case("amin-keep", lambda x: x.amin(1, keepdim=True), [X]),
    Case("max", torch.max, [X]),
    Case("max-axis", lambda x: x.max(1), [X], axes=(0, 1)),
    Case("min-axis-ties", lambda x: x.min(-1, keepdim=True), [integers(4, 9, low=0, high=3)]),
    Case("aminmax", lambda x: torch.aminmax(x, dim=1), [X]),
    Case("argmax", lambda x: x.argmax(-1), [X], axes=(0, 2)),
    Case("argmax-flat", lambda x: x.argmax(), [X]),
    Case("argmin-keep", lambda x: x.argmin(1, keepdim=True), [X]),
    Case("any", lambda x: x.any(-1), [bools(3, 4)]),
    Case("all", lambda x: x.all(), [bools(3, 4)]),
    Case("any-int", lambda x: x.any(0, keepdim=True), [INT]),
    Case("logsumexp", lambda x: x.logsumexp((0, -1)), [X], n=10),
    Case("var", torch.var, [X], n=30),
    Case("var-axis", lambda x: x.var(-1, unbiased=False), [X], n=5, kappa=2),
    Case("var-correction", lambda x: x.var((0, 1), correction=2, keepdim=True), [X], n=6, kappa=2),
    Case("std", lambda x: x.std(1), [X], n=3, kappa=2),
    Case("var_mean", lambda x: torch.var_mean(x, -1), [X], n=5, kappa=2),
    Case("norm", lambda x: x.norm(), [X], n=30),
    Case("vector_norm", lambda x: torch.linalg.vector_norm(x, dim=-1, keepdim=True), [X], n=5),
    Case("vector_norm-1", lambda x: torch.linalg.vector_norm(x, 1, -1), [X], n=5),
    Case("vector_norm-inf", lambda x: torch.linalg.vector_norm(x, float("inf"), -1), [X]),
    Case("vector_norm-3", lambda x: torch.linalg.vector_norm(x, 3, -1), [X], n=5),
    Case("normalize", lambda x: torch.nn.functional.normalize(x, dim=-1), [X], axes=(0,), n=5),
    Case("softmax", lambda x: x.softmax(-1), [X], axes=(0, 2), n=5, kappa=4),
    Case("softmax-middle", lambda x: x.softmax(1), [X], kappa=4),
    Case(
        "softmax-dtype",
        lambda x: x.softmax(-1, dtype=torch.float32),
        [torch.randn(3, 5).bfloat16()],
        n=5,
    ),
    Case("softmax-half", lambda x: x.softmax(-1), [torch.randn(3, 5).half()], n=5),
    Case("log_softmax", lambda x: x.log_softmax(-1), [X], n=5),
    Case("softmin", lambda x: torch.nn.functional.softmin(x, -1), [X], n=5, kappa=4),
    Case("cumsum", lambda x: x.cumsum(-1), [X], axes=(0, 2), n=5),
    Case("cumsum-int", lambda x: x.cumsum(1), [INT]),
    Case("cumsum-bool", lambda x: x.cumsum(-1), [bools(3, 7)]),
    Case(
        "cumsum-bfloat16",
        lambda x: x.cumsum(0),
        [torch.rand(2000).bfloat16()],
        n=2000,
        probes=(1.0,),
    ),
    Case("cumprod", lambda x: x.cumprod(-1), [positive(3, 5)]),
    Case("logcumsumexp", lambda x: x.logcumsumexp(-1), [X], n=5),
    Case("sort", lambda x: x.sort(-1), [X], axes=(0, 2)),
    Case("sort-descending", lambda x: x.sort(1, descending=True), [X]),
    Case(
        "sort-stable",
        lambda x: x.sort(stable=True, dim=-1, descending=True),
        [integers(4, 40, low=0, high=3)],
    ),
    Case("argsort", lambda x: x.argsort(-1), [X]),
    Case("argsort-descending", lambda x: x.argsort(-1, descending=True), [X]),
    Case("topk", lambda x: x.topk(2, -1), [X], axes=(0, 2)),
    Case("topk-smallest", lambda x: x.topk(2, 1, largest=False), [X]),
    Case("count_nonzero", lambda x: x.count_nonzero(), [INT]),
]


@pytest.mark.parametrize("case", rows(CASES))
def test_reductions(case):
    check(case)
