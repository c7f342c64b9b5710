"""Ops without a lowering of their own go by torch's decomposition, and so do arguments that a lowering refuses."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from lowering.check import Case, bools, check, integers, rows
from lowering.evaluate import lower

from porter.errors import UnsupportedError

X = (2, 3, 4)
CASES = [
    Case("rot90", lambda x: torch.rot90(x, 1, (1, 2)), [X], axes=(1,)),
    Case("isclose", lambda x, y: torch.isclose(x, y, rtol=0.5), [X, X]),
    Case("cosine-similarity", lambda x, y: F.cosine_similarity(x, y, dim=1), [X, X], n=3, kappa=8),
    Case("diag-embed", torch.diag_embed, [X]),
    Case("cross-entropy", F.cross_entropy, [(4, 3), integers(4, low=0, high=3)], n=12, kappa=8),
    Case("smoothed", lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1), [(4, 3), integers(4, low=0, high=3)],
         axes=(1,), n=12, kappa=8),
    Case("probabilities", F.cross_entropy, [(5, 3, 4), (5, 3, 4)], n=60, kappa=30, probes=(1.0,)),
    Case("instance-norm", lambda x, w: F.instance_norm(x, weight=w), [X, (3,)], n=4, kappa=8, probes=(1.0, 8.0)),
    Case("batch-statistics", lambda x, m: F.batch_norm(x, m, m, training=True), [X, (3,)], n=8, kappa=8,
         probes=(1.0, 8.0)),
    Case("bce", lambda x, y: F.binary_cross_entropy_with_logits(x, y.float()), [X, bools(*X)], n=24, kappa=8),
    Case("max-pool-places", lambda x: F.max_pool2d(x, 3, 2, 1, 2, True, True), [(2, 3, 9, 8)], axes=(2, 3), grow=4),
    Case("adaptive-places", lambda x: F.adaptive_max_pool2d(x, (3, 2), True), [(2, 3, 9, 8)], axes=(2, 3)),
    Case("unpool", lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, 2, return_indices=True), 2), [(2, 3, 8, 6)]),
]  # fmt: skip


@pytest.mark.parametrize("case", rows(CASES))
def test_decompositions(case):
    check(case)


def chunked(reduction, bias=None, weight=None):
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=2)

    def loss(x, weights, target):
        return F.linear_cross_entropy(
            x, weights, target, linear_bias=bias, weight=weight, reduction=reduction, ignore_index=1, options=options
        )  # fmt: skip

    return loss


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_chunks_of_a_last_layers_loss_are_its_loss(reduction):
    classes, bias = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([0.1, -0.3, 0.2])
    target = integers(6, low=0, high=3)
    for loss in (chunked(reduction), chunked(reduction, bias), chunked(reduction, bias, classes)):
        check(Case("chunked", loss, [(6, 4), (3, 4), target], n=24, kappa=8))


class Noise(torch.nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


def test_random_numbers_are_not_decomposed():
    with pytest.raises(UnsupportedError, match="rand_like"):
        lower(Noise(), (torch.randn(3),))
