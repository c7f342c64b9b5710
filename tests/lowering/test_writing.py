"""Writes by index arrays and masks, reads whose size depends on the data, and what counts."""

import pytest
import torch
from lowering.check import Case, bools, check, integers, rows

X = (5, 4)
I3 = torch.tensor([4, 1, 1])
PLACES = integers(3, 4, low=0, high=5)
MASK = bools(*X)


def assigned(x, key, values):
    x = x.clone()
    x[key] = values
    return x


def reduced(how: str, include_self: bool = True):
    return lambda x, i, y: x.scatter_reduce(0, i, y, how, include_self=include_self)


CASES = [
    Case("index-put", lambda x, y: x.index_put((I3[:2], torch.tensor([0, 2])), y), [X, (2,)]),
    Case("index-put-rows", lambda x, y: x.index_put((I3[:2],), y), [X, (4,)]),
    Case("set-columns", lambda x, y: assigned(x, (slice(None), I3[1:2]), y), [X, (5, 1)]),
    Case("index-put-adds", lambda x, y: x.index_put((I3,), y, accumulate=True), [X, (3, 4)], n=3),
    Case("mask-put", lambda x, m: x.index_put((m,), x[0, 0]), [X, MASK]),
    Case("mask-put-many", lambda x, m, y: x.index_put((m,), y), [X, MASK, (int(MASK.sum()),)]),
    Case("mask-put-adds", lambda x, m: x.index_put((m,), x[0, :1], accumulate=True), [X, MASK]),
    Case("masked-scatter", torch.masked_scatter, [X, MASK, (20,)]),
    Case("masked-scatter-broadcast", torch.masked_scatter, [X, bools(4), (20,)]),
    Case("scatter-part", lambda x, i: x.scatter(0, i[:2, :3], 1.5), [X, PLACES]),
    Case("scatter-add", lambda x, i, y: x.scatter_add(0, i, y), [X, PLACES, (3, 4)], n=4),
    *(Case(f"scatter-{how}-{own}", reduced(how, own), [X, PLACES, (3, 4)], n=8, probes=(1.0, 8.0))
      for how in ("sum", "prod", "mean", "amax", "amin") for own in (True, False)),
    Case("index-add", lambda x, y: x.index_add(0, I3, y, alpha=2), [X, (3, 4)], n=3),
    Case("index-add-columns", lambda x, y: x.index_add(1, I3[1:], y), [X, (5, 2)], axes=(), n=3),
    Case("index-reduce", lambda x, y: x.index_reduce(0, I3, y, "amax"), [X, (3, 4)]),
    Case("put", lambda x, y: x.put(I3, y[:3]), [X, (3,)]),
    Case("diagonal-scatter", lambda x, y: x.diagonal_scatter(y, 1), [(5, 5), (4,)]),
    Case("scalar-gather", lambda x: x.sum().gather(0, torch.tensor(0)), [X], n=20, kappa=8),
    Case("nonzero", lambda m: m.nonzero(), [MASK]),
    Case("masked-select", torch.masked_select, [X, MASK]),
    Case("rows-by-mask", lambda x, m: x[m], [X, bools(5)], axes=(1,)),
    Case("mask-and-index", lambda x, m: x[m, I3[1:2]], [X, bools(5)]),
    Case("unique", lambda i: i.unique(return_inverse=True, return_counts=True), [PLACES]),
    Case("consecutive", lambda i: torch.unique_consecutive(i.flatten(), return_counts=True), [PLACES]),
    Case("bincount", lambda i: torch.bincount(i.flatten(), minlength=7), [PLACES]),
    Case("histc", lambda x: torch.histc(x, 5, -2, 2), [X], probes=(1.0, 8.0)),
    Case("searchsorted", lambda x: torch.searchsorted(torch.tensor([-1.0, 0.0, 1.0]).to(x), x, right=True), [X]),
    Case("bucketize", lambda x: torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0])), [X]),
    Case("kthvalue", lambda x: x.kthvalue(2, 0), [X]),
    Case("median", lambda x: x.median(), [X]),
    Case("median-along", lambda x: x.median(1, keepdim=True), [X], axes=(0, 1)),
    Case("mode", lambda i: i.mode(0), [PLACES]),
    Case("cummax", lambda i: i.cummax(0), [integers(6, 5, low=0, high=4)]),
    Case("cummin", lambda x: x.cummin(1), [X]),
]  # fmt: skip


@pytest.mark.parametrize("case", rows(CASES))
def test_writing(case):
    check(case)
