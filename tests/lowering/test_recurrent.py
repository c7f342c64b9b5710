"""Recurrent layers against torch."""

import pytest
import torch
from lowering.check import Case, check, rows
from torch import nn

from tests.random_modules.parity import port_of

X = (2, 7, 5)

CASES = [
    Case("lstm", nn.LSTM(5, 4, batch_first=True), [X], axes=(0,), n=9, kappa=4),
    Case("lstm-length-first", nn.LSTM(5, 4), [X], n=9, kappa=4),
    Case("lstm-two-layers", nn.LSTM(5, 4, num_layers=2, batch_first=True), [X], n=9, kappa=8),
    Case(
        "lstm-both-ways",
        nn.LSTM(5, 4, num_layers=2, bidirectional=True, batch_first=True),
        [X],
        n=9,
        kappa=8,
    ),
    Case("lstm-no-bias", nn.LSTM(5, 4, bias=False, batch_first=True), [X], n=9, kappa=4),
    Case("gru", nn.GRU(5, 4, batch_first=True), [X], axes=(0,), n=9, kappa=4),
    Case("gru-both-ways", nn.GRU(5, 4, num_layers=2, bidirectional=True), [X], n=9, kappa=8),
    Case("gru-state", nn.GRU(5, 4, num_layers=2, batch_first=True), [X, (2, 2, 4)], n=9, kappa=8),
    Case("gru-no-bias", nn.GRU(5, 4, bias=False, batch_first=True), [X], n=9, kappa=4),
    Case("lstm-projected", nn.LSTM(5, 4, 2, proj_size=3, bidirectional=True), [X], n=9, kappa=8),
    Case("lstm-alone", nn.LSTM(5, 4), [(7, 5)], n=9, kappa=4),
    Case("lstm-cell", nn.LSTMCell(5, 4), [(2, 5)], axes=(0,), n=9, kappa=4),
    Case("gru-cell", nn.GRUCell(5, 4), [(2, 5), (2, 4)], n=9, kappa=4),
    Case("rnn-cell", nn.RNNCell(5, 4), [(2, 5)], n=9, kappa=4),
    Case("relu-cell", nn.RNNCell(5, 4, nonlinearity="relu"), [(2, 5)], n=9, kappa=8),
    Case("rnn-relu", nn.RNN(5, 4, nonlinearity="relu"), [X], n=9, kappa=8),
    Case("rnn", nn.RNN(5, 4, batch_first=True), [X], n=9, kappa=4),
]


@pytest.mark.parametrize("case", rows(CASES))
def test_recurrent(case):
    check(case)


def test_the_last_state_of_one_layer_is_no_stack(recwarn):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.head = nn.GRU(5, 4, batch_first=True), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.gru(x)[1].squeeze(0))

    assert "self.head(self.gru(x)[:, -1])" in port_of(Last, [torch.randn(*X)]).port.model_py
    assert not [w for w in recwarn if "export" in str(w.message)]  # torch's, of copies of its own
