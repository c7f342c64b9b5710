"""ctc_loss against torch's: lengths of all kinds, repeated labels, what can't be emitted."""

import mlx.core as mx
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from porter.functions.losses import ctc_loss


def drawn(seed):
    """log_probs (T, N, C), targets (N, S), lengths of both and the blank; most labels repeat."""
    random = np.random.default_rng(seed)
    steps, samples, classes, most = random.integers([1, 1, 2, 1], [12, 5, 5, 6])
    blank = random.integers(classes)
    labels = [label for label in range(classes) if label != blank]
    log_probs = torch.tensor(random.normal(size=(steps, samples, classes)), dtype=torch.float32)
    return (
        log_probs.log_softmax(-1),
        torch.tensor(random.choice(labels, (samples, most))),
        torch.tensor(random.integers(1, steps + 1, samples)),
        torch.tensor(random.integers(0, most + 1, samples)),
        int(blank),
    )


@pytest.mark.parametrize("seed", range(40))
def test_ctc_loss(seed):
    log_probs, targets, steps, lengths, blank = drawn(seed)
    log_probs.requires_grad_()
    want = F.ctc_loss(log_probs, targets, steps, lengths, blank, reduction="none")
    reached = torch.isfinite(want)
    arrays = [mx.array(x.numpy()) for x in (targets, steps, lengths)]
    x = mx.array(log_probs.detach().numpy())
    np.testing.assert_allclose(
        ctc_loss(x, *arrays, blank), want.detach().numpy(), rtol=1e-4, atol=1e-5
    )

    given = mx.array(reached.numpy())
    gradient = mx.grad(lambda x: mx.where(given, ctc_loss(x, *arrays, blank), 0).sum())(x)
    assert np.isfinite(gradient).all()
    if reached.any():  # torch's is of a softmax's logits, whatever it is given
        (wanted,) = torch.autograd.grad(want[reached].sum(), log_probs)
        own, wanted = (
            of_logits(g, log_probs)[:, reached] for g in (torch.tensor(np.array(gradient)), wanted)
        )  # of samples that can't be, torch's is NaN
        torch.testing.assert_close(own, wanted, rtol=1e-4, atol=1e-5)


def of_logits(gradient, log_probs):
    """The gradient of the logits whose log-softmax has this one."""
    return gradient - log_probs.detach().exp() * gradient.sum(-1, keepdim=True)


def test_labels_of_all_samples_may_come_in_one_row():
    log_probs, targets, steps, lengths, blank = drawn(3)
    row = torch.cat([labels[:count] for labels, count in zip(targets, lengths, strict=True)])
    x, rows, one, steps, lengths = (
        mx.array(x.numpy()) for x in (log_probs, targets, row, steps, lengths)
    )
    assert mx.allclose(
        ctc_loss(x, one, steps, lengths, blank), ctc_loss(x, rows, steps, lengths, blank)
    )
