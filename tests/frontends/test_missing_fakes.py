"""Ops whose results' shapes torch.export does not know by itself."""

import pytest
import torch
from torch import nn

from tests.random_modules.parity import port_of


class Recognizer(nn.Module):
    """Letters of a sound, and the loss of a transcript, as a trainer's forward gives them."""

    def __init__(self, reduction):
        super().__init__()
        self.rnn, self.head = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 5)
        self.loss = nn.CTCLoss(blank=4, reduction=reduction)

    def forward(self, sounds, labels, lengths, label_lengths):
        logits = self.head(self.rnn(sounds)[0])
        log_probs = logits.log_softmax(-1).transpose(0, 1)
        return logits, self.loss(log_probs, labels, lengths, label_lengths)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_ctc_loss(reduction):
    inputs = [
        torch.randn(3, 9, 6),
        torch.randint(0, 4, (3, 4)),
        torch.tensor([7, 9, 8]),
        torch.tensor([3, 2, 0]),
    ]
    ported = port_of(lambda: Recognizer(reduction), inputs)
    ported.check(*inputs)
    more = [torch.cat([x, x.flip(0)]) for x in inputs]
    ported.check(*more)
