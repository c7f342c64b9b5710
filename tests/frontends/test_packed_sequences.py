"""Packed sequences: recurrent layers over padded arrays that go by lengths."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from porter.frontends.export import export_program
from porter.sources.built import from_module
from tests.random_modules.parity import check_source, port_of

LENGTHS = torch.tensor([4, 7, 1])


class Tagger(nn.Module):
    """All that the layer gives, of sequences that come samples first or steps first."""

    def __init__(self, layer: type[nn.RNNBase], batch_first: bool, start: bool = False):
        super().__init__()
        self.batch_first, self.start = batch_first, start
        self.rnn = layer(4, 5, num_layers=2, bidirectional=True, batch_first=batch_first)

    def forward(self, x, lengths):
        axis = 1 if self.batch_first else 0
        x = x if self.batch_first else x.transpose(0, 1)
        packed = pack_padded_sequence(x, lengths.cpu(), self.batch_first, enforce_sorted=False)
        state = None
        if self.start:
            state = x.mean(axis)[None, :, :1].expand(4, -1, 5).contiguous()
            state = (state, 2 * state) if isinstance(self.rnn, nn.LSTM) else state
        packed, last = self.rnn(packed, state)
        padded, again = pad_packed_sequence(
            packed, self.batch_first, padding_value=-1.0, total_length=x.size(axis)
        )
        return padded, last, again


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(("batch_first", "start"), [(True, False), (False, False), (True, True)])
def test_each_sequence_ends_at_its_length(layer, batch_first, start):
    ported = port_of(lambda: Tagger(layer, batch_first, start), (torch.randn(3, 7, 4), LENGTHS))
    ported.check(torch.randn(3, 7, 4), LENGTHS)
    ported.check(torch.randn(2, 9, 4), torch.tensor([6, 9]))
    check_source(ported.port.model_py)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 5, batch_first=True)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]


def test_an_array_that_the_longest_fills_is_told():
    encoder, inputs = Encoder(), (torch.randn(3, 7, 4), LENGTHS)
    program, notes = export_program(from_module(encoder, inputs))
    assert any("the longest fills its array" in note for note in notes)
    torch.testing.assert_close(program.module()(*inputs), encoder(*inputs))  # the proof runs it


class Read(Encoder):
    """Reads the elements of a packed sequence, of which a padded one has more."""

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return packed.data.mean()


def test_elements_without_padding_are_refused():
    with pytest.raises(Exception, match="without padding"):
        port_of(Read, (torch.randn(3, 7, 4), LENGTHS))
