"""Writes by index arrays and masks, reads whose size depends on the data, and what counts."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from lowering.check import Case, _Function, bools, check, integers, rows
from lowering.evaluate import lower

from tests.passes.programs import program_of

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
    Case("mask-set-by-read", lambda x, m: assigned(x, m, x[m] * 2), [X, bools(5)]),  # torch checks its size twice
    Case("mask-put-nowhere", lambda x: assigned(x, x > 99, (x * 2)[x > 99].exp()), [X]),
    Case("mask-put-of-selected", lambda x, y: assigned(x, y < x, y[y < x]), [X, X]),
    Case("mask-adds-selected", lambda x, m, y: assigned(x, m, x[m] + y[m].clamp(min=0)), [X, MASK, X]),
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
    Case("unique-scalar", lambda i: i[0, 0].unique(return_inverse=True, return_counts=True), [PLACES]),
    Case("unique-rows", lambda i: torch.unique(i % 2, dim=0, return_inverse=True, return_counts=True),
         [integers(9, 3, low=0, high=5)]),
    Case("unique-columns", lambda i: torch.unique(i % 2, dim=1), [integers(3, 9, low=0, high=5)]),
    Case("consecutive-rows", lambda i: torch.unique_consecutive(i // 3, dim=0, return_inverse=True),
         [integers(9, 1, low=0, high=5)]),
    Case("repeat-by", lambda x, i: x.repeat_interleave(i, 1), [X, torch.tensor([2, 0, 3, 1])]),
    Case("repeat-by-total", lambda x, i: x.repeat_interleave(i, 1, output_size=6), [X, torch.tensor([2, 0, 3, 1])]),
    Case("nonzero-tuple-of-scalar", lambda x: x.sum().nonzero(as_tuple=True), [X]),
    Case("nonzero-static", lambda m: torch.nonzero_static(m, size=30), [MASK]),
    Case("nonzero-static-cut", lambda m: torch.nonzero_static(m, size=3, fill_value=7), [MASK]),
    Case("strided", lambda x: (x * 1).as_strided((3, 4), (2, 1), 1), [X]),
    Case("strided-scatter", lambda x, y: (x * 1).as_strided_scatter(y, (2, 3), (7, 2), 1), [X, (2, 3)]),
    *(Case(f"embedding-bag-{mode}", lambda w, i, mode=mode: F.embedding_bag(i.flatten(), w, torch.tensor([0, 3, 3, 7]),
           mode=mode, padding_idx=1), [X, PLACES], n=8) for mode in ("sum", "mean", "max")),
    Case("embedding-bag-weights", lambda w, i, s: F.embedding_bag(i, w, per_sample_weights=s, mode="sum"), [X, PLACES, (3, 4)],
         n=4, kappa=4),
    *(Case(f"scatter-{how}-int-{own}", reduced(how, own), [integers(5, 4), PLACES, integers(3, 4)])
      for how in ("sum", "prod", "amax", "amin") for own in (True, False)),
    Case("number-of-data", lambda x: x / x.abs().max().item(), [X], axes=(0,)),
    Case("numbers-of-data", lambda x: x.clamp(min=x.max().item() - 0.5) + 2 * x.min().item() ** 2, [X], n=2),
    Case("chosen-by-number-of-data", lambda x: torch.where(x > x.mean().item(), x, 0.0).masked_fill(x < 0, x.max().item()),
         [X], n=20, kappa=4),
    Case("filled-by-number-of-data", lambda x: torch.full_like(x, x.max().item()) + x.add(1, alpha=x.max().item()), [X]),
    Case("nanmedian", lambda x: torch.where(x > 0.5, float("nan"), x).nanmedian(1), [X], probes=(1.0, 8.0)),
    Case("histc-own-bounds", lambda x: torch.histc(x, 5), [X]),
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


def test_numbers_are_numbers():
    """What torch lifted to a tensor without axes is written as the number, and a part is written back once."""

    def write(x):
        x = x.clone()
        x[:, :1] = 0.1
        x[:, 1:2] += 1
        return x * torch.tensor(2.0)

    program = lower(Case("write", write, []).module(), (torch.randn(3, 4),)).program
    assert not [v for node in program.nodes for v in node.inputs() if v.is_parameter]
    assert [node.op for node in program.nodes].count("mx.concatenate") == 2


@pytest.mark.parametrize("case", rows(CASES))
def test_writing(case):
    check(case)


@pytest.mark.parametrize(
    ("write", "waits"),
    [
        (lambda x, y: assigned(x, y < x, y[y < x]), False),
        (lambda x, y: assigned(x, y < x, torch.tanh(x[y < x]) - 2 * y[y < x]), False),
        (
            lambda x, y: assigned(x, x > 0, x[x > 0].log()),
            True,
        ),  # its gradient is NaN for the others
        (lambda x, y: assigned(x, x > 0, x[y > 0]), True),
    ],
)
def test_what_is_selected_by_the_mask_of_a_write_is_chosen(write, waits):
    x = torch.arange(-10.0, 10.0).reshape(5, 4)
    lowered = lower(_Function(write), (x, x.flip(0).contiguous()))
    assert any(node.op == "fn.masked_put" for node in lowered.program.nodes) == waits


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_bags_of_one_size_are_rows_that_are_added_up(mode):
    """Nothing is searched and nothing scattered where each row of indices is a bag."""

    def bags(weight, indices):
        return F.embedding_bag(indices, weight, mode=mode)

    program = program_of(bags, torch.randn(5, 4), torch.tensor([[4, 1], [0, 3], [2, 2]])).program
    names = [node.op for node in program.nodes]
    assert "fn.embedding_bag" not in names
    assert f"mx.{mode}" in names
