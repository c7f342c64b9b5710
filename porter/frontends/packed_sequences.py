"""Packed sequences: an export takes a recurrent layer over sequences of several lengths as one op over the padded array.

How many sequences are left at each step is data, which torch packs by; the lengths themselves are an input like any other.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import rnn

from porter.frontends.whole_recurrences import ORIGINALS

#: By torch's name of the mode: the name of the op.
_KINDS = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu"}
_REST = "Tensor[] weights, bool has_biases, int layers, float dropout, bool training, bool bidirectional"
_LIBRARY = torch.library.Library("porter", "FRAGMENT")
_PACK, _PAD = rnn.pack_padded_sequence, rnn.pad_packed_sequence


class _Packed(rnn.PackedSequence):
    """A padded array (samples first) and the lengths of its sequences, which only recurrent layers and padding read."""

    padded: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, padded: Tensor, lengths: Tensor) -> _Packed:
        packed: _Packed = tuple.__new__(cls, (None, None, None, None))
        packed.padded, packed.lengths = padded, lengths
        return packed

    @property
    def data(self) -> Any:  # type: ignore[override]
        raise TypeError("the elements of a packed sequence are read without padding")

    batch_sizes = sorted_indices = unsorted_indices = data  # type: ignore[assignment]


@contextmanager
def packed_sequences() -> Iterator[list[str]]:
    """Puts padded arrays in the place of packed ones; undone at the end. Yields what was taken for granted."""
    granted: list[str] = []

    def pack(
        input: Tensor,  # noqa: A002 -- as torch calls it
        lengths: Any,
        batch_first: bool = False,
        enforce_sorted: bool = True,
    ) -> Any:
        return _Packed.of(
            input if batch_first else input.transpose(0, 1),
            torch.as_tensor(lengths, dtype=torch.int64),
        )

    def pad(
        sequence: Any,
        batch_first: bool = False,
        padding_value: float = 0.0,
        total_length: Any = None,
    ) -> Any:
        if not isinstance(sequence, _Packed):
            return _PAD(sequence, batch_first, padding_value, total_length)
        padded, lengths = sequence.padded, sequence.lengths
        if total_length is None:
            granted.append(_FILLED)
        if padding_value:
            steps = torch.arange(padded.shape[1], device=padded.device)
            padded = padded.masked_fill((steps >= lengths[:, None])[..., None], padding_value)
        return padded if batch_first else padded.transpose(0, 1), lengths

    tables = [vars(m) for m in list(sys.modules.values()) if hasattr(m, "__dict__")]
    places = [
        (table, name, plain)
        for name, plain in (("pack_padded_sequence", _PACK), ("pad_packed_sequence", _PAD))
        for table in tables
        if table.get(name) is plain
    ]
    forwards = {layer: layer.forward for layer in (nn.LSTM, nn.GRU, nn.RNN)}
    try:
        for table, name, plain in places:
            table[name] = pack if plain is _PACK else pad
        for layer, forward in forwards.items():
            layer.forward = _either(forward)  # type: ignore[method-assign]
        yield granted
    finally:
        for table, name, plain in places:
            table[name] = plain
        for layer, forward in forwards.items():
            layer.forward = forward  # type: ignore[method-assign]


_FILLED = "where the source pads packed sequences again, the port takes it that the longest fills its array"


def _either(plain: Any) -> Any:
    def forward(self: Any, input: Any, hx: Any = None) -> Any:  # noqa: A002 -- as torch calls it
        if not isinstance(input, _Packed):
            return plain(self, input, hx)
        if self.proj_size:
            raise TypeError("a projected LSTM goes over packed sequences")
        self._update_flat_weights()  # an export puts others in the places of the parameters
        x, kind = input.padded, _KINDS[self.mode]
        if hx is None:
            count = self.num_layers * (2 if self.bidirectional else 1)
            zeros = x.new_zeros(count, x.shape[0], self.hidden_size)
            hx = (zeros, zeros) if kind == "lstm" else zeros
        outputs, *last = getattr(torch.ops.porter, f"{kind}_by_length")(
            x, input.lengths, list(hx) if kind == "lstm" else [hx], self._flat_weights,
            self.bias, self.num_layers, self.dropout, self.training, self.bidirectional,
        )  # fmt: skip
        return _Packed.of(outputs, input.lengths), tuple(last) if kind == "lstm" else last[0]

    return forward


def _kernel(kind: str) -> Any:
    def run(x: Tensor, lengths: Tensor, state: list[Tensor], *rest: Any) -> Any:
        packed: Any = _PACK(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states = [value.index_select(1, packed.sorted_indices) for value in state]
        data, *last = ORIGINALS[kind](
            packed.data, packed.batch_sizes, states if kind == "lstm" else states[0], *rest
        )
        packed = packed._replace(data=data)
        outputs, _ = _PAD(packed, batch_first=True, total_length=x.shape[1])
        return outputs, *(value.index_select(1, packed.unsorted_indices) for value in last)

    return run


def _shapes(x: Any, lengths: Any, state: Any, *rest: Any) -> Any:
    directions = 2 if rest[5] else 1
    outputs = x.new_empty(*x.shape[:-1], directions * state[0].shape[-1])
    return outputs, *(torch.empty_like(value) for value in state)


for _name in _KINDS.values():
    _results = ", ".join(["Tensor"] * (3 if _name == "lstm" else 2))
    _schema = f"(Tensor x, Tensor lengths, Tensor[] state, {_REST}) -> ({_results})"
    _LIBRARY.define(f"{_name}_by_length{_schema}")
    _LIBRARY.impl(f"{_name}_by_length", _kernel(_name), "CompositeExplicitAutograd")
    torch.library.register_fake(f"porter::{_name}_by_length", _shapes, lib=_LIBRARY)
