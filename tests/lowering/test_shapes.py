"""Views, joins, parts, indexing, padding and made arrays against torch."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from lowering.check import Case, bools, check, integers, rows

X = (2, 3, 5)
IMAGE = (2, 4, 6, 7)

VIEWS = [
    Case("view", lambda x: x.view(x.shape[0], -1), [X], axes=(0,)),
    Case("reshape-merge", lambda x: x.transpose(1, 2).reshape(-1, 3), [X], axes=(0, 2)),
    Case("flatten", lambda x: x.flatten(1), [IMAGE], axes=(0, 2)),
    Case("flatten-scalar", lambda x: x.sum().flatten(), [X]),
    Case("unflatten", lambda x: x.unflatten(1, (2, 2)), [IMAGE], axes=(0,)),
    Case("permute", lambda x: x.permute(0, -1, 1, 2), [IMAGE], axes=(0,)),
    Case("transpose", lambda x: x.transpose(-1, 0), [X]),
    Case("mT", lambda x: x.mT, [X]),
    Case("t", lambda x: x.t(), [(3, 4)]),
    Case("movedim", lambda x: x.movedim(1, -1), [IMAGE]),
    Case("movedim-list", lambda x: x.movedim((0, 3), (2, 0)), [IMAGE]),
    Case("unsqueeze", lambda x: x.unsqueeze(-1), [X], axes=(1,)),
    Case("squeeze", lambda x: x.squeeze(1), [(2, 1, 3)]),
    Case("squeeze-all", lambda x: x.squeeze(), [(1, 2, 1, 3)]),
    Case("squeeze-none", lambda x: x.squeeze(0), [X]),
    Case("expand", lambda x: x.unsqueeze(1).expand(-1, 4, -1, -1), [X], axes=(0,)),
    Case("broadcast_to", lambda x: torch.broadcast_to(x, (4, 2, 3, 5)), [X]),
    Case("contiguous", lambda x: x.transpose(0, 1).contiguous().clone().detach(), [X]),
    Case("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), [IMAGE], axes=(0, 2, 3)),
    Case("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), [(2, 3, 4, 6)]),
    Case("channel_shuffle", lambda x: F.channel_shuffle(x, 2), [IMAGE]),
]
JOINS = [
    Case("cat", lambda x, y: torch.cat([x, y], -1), [X, (2, 3, 4)]),
    Case("cat-types", lambda x, y: torch.cat([x, y]), [X, integers(1, 3, 5)]),
    Case("cat-empty", lambda x: torch.cat([torch.zeros(0), x]), [X]),
    Case("cat-self", lambda x: torch.cat([x, x], 1), [X], axes=(0, 1)),
    Case("stack-before-last", lambda x: torch.stack([x, x + 1], x.ndim - 1), [X], axes=(0,)),
    Case("stack", lambda x: torch.stack([x, x + 1], -1), [X], axes=(0,)),
    Case("meshgrid", lambda x, y: torch.meshgrid(x, y, indexing="ij"), [(3,), (4,)]),
    Case("meshgrid-one", lambda x: torch.meshgrid(x, indexing="ij"), [(3,)]),
    Case(
        "stack-sizes",
        lambda x: x.flatten(0, 1) * torch.tensor([x.shape[0], x.shape[1]]).sum(),
        [(3, 4, 2)],
    ),
    Case("meshgrid-xy", lambda x, y: torch.meshgrid(x, y, indexing="xy"), [(3,), (4,)]),
]
MERGED = [
    Case(
        "masked_scatter-rows",
        lambda x, mask, rows: x.masked_scatter(mask.unsqueeze(-1), rows),
        [X, torch.tensor([[True, False, True], [False, True, True]]), (4, 5)],
    ),
    Case(
        "masked_scatter-expanded",
        lambda x, mask, rows: x.masked_scatter(mask.unsqueeze(-1).expand_as(x), rows),
        [X, torch.tensor([[False, False, True], [True, True, False]]), (1, 3, 5)],
    ),
    Case(
        "masked_scatter",
        lambda x, y: x.masked_scatter(x > 0, y),
        [X, (40,)],
    ),
]
PARTS = [
    Case("split", lambda x: torch.split(x, 2, 1), [(2, 6, 5)], axes=(0,)),
    Case("split-uneven", lambda x: torch.split(x, 4, 1), [(2, 6, 5)]),
    Case("split-sizes", lambda x: torch.split(x, [1, 3, 2], 1), [(2, 6, 5)], axes=(0,)),
    Case("chunk", lambda x: x.chunk(3, -1), [(2, 5, 6)], axes=(0,)),
    Case("chunk-uneven", lambda x: x.chunk(3, -1), [(2, 5, 8)]),
    Case("chunk-one", lambda x: x.chunk(1), [X]),
    Case("tensor_split", lambda x: x.tensor_split(3, -1), [(2, 5, 8)]),
    Case("unbind", lambda x: x.unbind(0), [X]),
    Case("unbind-one", lambda x: x.unbind(0)[0][:, ::2], [(1, 4, 6)]),
    Case("unbind-last", lambda x: x.unbind(-1), [X], axes=(0,)),
    Case("select", lambda x: x[:, 0], [X], axes=(0, 1)),
    Case("select-last", lambda x: x[..., -1], [X], axes=(0, 2)),
    Case("slice", lambda x: x[:, 1:], [X], axes=(0, 1)),
    Case("slice-step", lambda x: x[:, ::2, 1:-1], [X], axes=(1, 2)),
    Case("slice-negative", lambda x: x[:, -2:], [X], axes=(1,)),
    Case("slice-half", lambda x: x[..., : x.shape[-1] // 2], [(2, 3, 6)], axes=(0, 2), grow=2),
    Case("slice-all", lambda x: x[:, :100], [X]),
    Case("narrow", lambda x: x.narrow(1, 1, 2), [X], axes=(0,)),
    Case("repeat", lambda x: x.repeat(2, 1, 3), [X], axes=(0,)),
    Case("repeat-longer", lambda x: x.repeat(2, 1, 1, 1), [X]),
    Case("tile", lambda x: x.tile(2), [X]),
    Case("repeat_interleave", lambda x: x.repeat_interleave(2, 1), [X], axes=(0, 1)),
    Case("repeat_interleave-flat", lambda x: x.repeat_interleave(1), [X]),
    Case("roll", lambda x: torch.roll(x, 2, 1), [X], axes=(0, 1)),
    Case("roll-two", lambda x: torch.roll(x, (-1, 2), (1, 2)), [X], axes=(0, 1)),
    Case("roll-flat", lambda x: torch.roll(x, 4), [X]),
    Case("flip", lambda x: x.flip(0, 2), [X], axes=(0,)),
    Case("tril", lambda x: x.tril(), [X]),
    Case("triu", lambda x: x.triu(1), [X]),
    Case("diagonal", lambda x: x.diagonal(1, 1, 2), [X]),
    Case("trace", lambda x: x.trace(), [(4, 5)]),
    Case("trace of whole numbers", lambda x: x.int().trace(), [(4, 4)]),
    Case("gradient", lambda x: torch.gradient(x)[1], [(5, 6)], kappa=8),
    Case("diag-of-matrix", lambda x: torch.diag(x, 1), [(4, 5)]),
    Case("diag-of-vector", lambda x: torch.diag(x, -1), [(4,)]),
]
INDEXING = [
    Case("index", lambda x, i: x[i], [X, integers(4, low=0, high=2)]),
    Case("index-negative", lambda x, i: x[:, i], [X, integers(4, low=-3, high=3)]),
    Case("index-2d", lambda x, i: x[:, i], [X, integers(4, 2, low=0, high=3)], axes=(0,)),
    Case(
        "index-two",
        lambda x, i, j: x[i, j],
        [X, integers(4, 1, low=0, high=2), integers(1, 3, low=0, high=3)],
    ),
    Case(
        "index-apart",
        lambda x, i, j: x[i, :, j],
        [X, integers(4, low=0, high=2), integers(4, low=0, high=5)],
    ),
    Case("index_select", lambda x, i: x.index_select(1, i), [X, integers(4, low=0, high=3)]),
    Case("gather", lambda x, i: x.gather(1, i), [X, integers(2, 4, 5, low=0, high=3)]),
    Case("gather-part", lambda x, i: x.gather(1, i), [X, integers(1, 4, 2, low=0, high=3)]),
    Case(
        "take_along_dim",
        lambda x, i: torch.take_along_dim(x, i, 1),
        [X, integers(2, 4, 5, low=0, high=3)],
    ),
    Case("take", lambda x, i: x.take(i), [X, integers(4, low=0, high=30)]),
    Case("one_hot", lambda i: F.one_hot(i, 6), [integers(4, 2, low=0, high=6)]),
    Case("embedding", torch.nn.Embedding(7, 4), [integers(2, 3, low=0, high=7)], axes=(0, 1)),
    Case(
        "embedding-computed",
        lambda w, i: F.embedding(i, w * 2),
        [(7, 4), integers(2, 3, low=0, high=7)],
    ),
]
PADDING = [
    Case("pad", lambda x: F.pad(x, (1, 2)), [X], axes=(0, 2)),
    Case("pad-value", lambda x: F.pad(x, (1, 2, 0, 1), value=-3.5), [X], axes=(0,)),
    Case("pad-nothing", lambda x: F.pad(x, (0, 0)), [X]),
    Case("pad-negative", lambda x: F.pad(x, (-1, 2, 1, -1)), [X], axes=(0, 2)),
    Case("pad-bool", lambda x: F.pad(x, (1, 1), value=True), [bools(2, 3)]),
    Case("pad-reflect", lambda x: F.pad(x, (2, 1, 3, 0), mode="reflect"), [IMAGE], axes=(0, 2)),
    Case("pad-replicate", lambda x: F.pad(x, (2, 1, 3, 0), mode="replicate"), [IMAGE], axes=(0, 2)),
    Case("pad-circular", lambda x: F.pad(x, (2, 1, 3, 0), mode="circular"), [IMAGE], axes=(0,)),
    Case("pad-to-multiple", lambda x: F.pad(x, (0, -x.shape[-1] % 4)), [(2, 6)], axes=(1,)),
]
MADE = [
    Case("arange", lambda x: torch.arange(x.shape[1]) + x.sum().long() * 0, [X], axes=(1,)),
    Case("arange-step", lambda x: torch.arange(1, 10, 3) + x, [(3,)]),
    Case("arange-float", lambda x: torch.arange(0, 1, 0.25) + x, [(4,)]),
    Case("arange-dtype", lambda x: torch.arange(5, dtype=torch.float32) * x, [(5,)]),
    Case("zeros", lambda x: torch.zeros(x.shape[0], 2) + x.sum(), [X], axes=(0,), n=30),
    Case("ones_like", lambda x: torch.ones_like(x), [X], axes=(0,)),
    Case("full", lambda x: torch.full((2, 3), 2.5) + x.sum(), [X], n=30),
    Case("full_like", lambda x: torch.full_like(x, 4), [X]),
    Case("new_ones", lambda x: x.new_ones(3, dtype=torch.bool), [X]),
    Case("new_full", lambda x: x.new_full((2,), 7), [X]),
    Case("scalar_tensor", lambda x: x * torch.scalar_tensor(2.0), [X]),
    Case("linspace", lambda x: torch.linspace(-1, 1, 7) + x, [(7,)]),
    Case("eye", lambda x: torch.eye(3, 4) + x, [(4,)]),
]
CASES = VIEWS + JOINS + MERGED + PARTS + INDEXING + PADDING + MADE


@pytest.mark.parametrize("case", rows(CASES))
def test_shapes(case):
    check(case)
