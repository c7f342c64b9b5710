"""Recurrent layers that an export takes as one op each.

torch tells the shapes of an LSTM's results by going through its steps, which would fix their number to that of the example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_REST = (
    "Tensor[] weights, bool has_biases, int layers, float dropout, bool training, bool bidirectional, "
    "bool batch_first"
)
#: The schemas of torch's own functions for whole sequences, by name.
RECURRENCES = {
    "lstm": f"(Tensor x, Tensor[] state, {_REST}) -> (Tensor, Tensor, Tensor)",
    "gru": f"(Tensor x, Tensor state, {_REST}) -> (Tensor, Tensor)",
    "rnn_tanh": f"(Tensor x, Tensor state, {_REST}) -> (Tensor, Tensor)",
    "rnn_relu": f"(Tensor x, Tensor state, {_REST}) -> (Tensor, Tensor)",
}
_LIBRARY = torch.library.Library("porter", "FRAGMENT")
ORIGINALS: dict[str, Callable[..., Any]] = {
    name: getattr(torch._C._VariableFunctions, name) for name in RECURRENCES
}


@contextmanager
def whole_recurrences() -> Iterator[None]:
    """Puts the ops in the place of the functions that torch.nn's recurrent layers call; undone at the end."""
    functions = vars(torch._VF)
    before = {name: functions[name] for name in RECURRENCES if name in functions}
    try:
        for name in RECURRENCES:
            functions[name] = _either(name)
        yield
    finally:
        for name in RECURRENCES:
            functions.pop(name, None)
        functions.update(before)


def _either(name: str) -> Callable[..., Any]:
    """The op, or torch's function for packed sequences, whose steps the data tells."""

    def call(*arguments: Any) -> Any:
        packed = len(arguments) != 9 or not isinstance(arguments[3], bool)
        return (ORIGINALS[name] if packed else getattr(torch.ops.porter, name))(*arguments)

    return call


def _shapes(x: Any, state: Any, *rest: Any) -> Any:
    """Fake results: the hidden states of all steps, then the last ones."""
    states = state if isinstance(state, (list, tuple)) else [state]
    directions = 2 if rest[5] else 1
    outputs = x.new_empty(*x.shape[:-1], directions * states[0].shape[-1])
    return outputs, *(torch.empty_like(value) for value in states)


for _name, _schema in RECURRENCES.items():
    _LIBRARY.define(_name + _schema)
    _LIBRARY.impl(_name, ORIGINALS[_name], "CompositeExplicitAutograd")
    torch.library.register_fake(f"porter::{_name}", _shapes, lib=_LIBRARY)
