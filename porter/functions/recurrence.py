"""Recurrent layers and cells that mlx.nn does not have."""

import mlx.core as mx
import mlx.nn as nn


def lstm_projected(
    x: mx.array,
    weight_ih: mx.array,
    weight_hh: mx.array,
    weight_hr: mx.array,
    bias: mx.array | None = None,
    hidden: mx.array | None = None,
    cell: mx.array | None = None,
) -> tuple[mx.array, mx.array]:
    """An LSTM over x (..., L, D) whose hidden state weight_hr projects: all hidden states, all cells."""
    gates = x @ weight_ih.T if bias is None else mx.addmm(bias, x, weight_ih.T)
    hiddens, cells = [], []
    for step in range(x.shape[-2]):
        total = gates[..., step, :]
        if hidden is not None:
            total = total + hidden @ weight_hh.T
        i, f, g, o = mx.split(total, 4, axis=-1)
        new = mx.sigmoid(i) * mx.tanh(g)
        cell = new if cell is None else mx.sigmoid(f) * cell + new
        hidden = (mx.sigmoid(o) * mx.tanh(cell)) @ weight_hr.T
        hiddens.append(hidden)
        cells.append(cell)
    return mx.stack(hiddens, axis=-2), mx.stack(cells, axis=-2)


def lstm_cell(
    x: mx.array,
    hidden: mx.array,
    cell: mx.array,
    weight_ih: mx.array,
    weight_hh: mx.array,
    bias_ih: mx.array | float = 0,
    bias_hh: mx.array | float = 0,
) -> tuple[mx.array, mx.array]:
    """One step of an LSTM: the new hidden state and cell."""
    gates = x @ weight_ih.T + bias_ih + hidden @ weight_hh.T + bias_hh
    i, f, g, o = mx.split(gates, 4, axis=-1)
    cell = mx.sigmoid(f) * cell + mx.sigmoid(i) * mx.tanh(g)
    return mx.sigmoid(o) * mx.tanh(cell), cell


def gru_cell(
    x: mx.array,
    hidden: mx.array,
    weight_ih: mx.array,
    weight_hh: mx.array,
    bias_ih: mx.array | float = 0,
    bias_hh: mx.array | float = 0,
) -> mx.array:
    """One step of a GRU: the new hidden state."""
    r, z, n = mx.split(x @ weight_ih.T + bias_ih, 3, axis=-1)
    hidden_r, hidden_z, hidden_n = mx.split(hidden @ weight_hh.T + bias_hh, 3, axis=-1)
    z = mx.sigmoid(z + hidden_z)
    n = mx.tanh(n + mx.sigmoid(r + hidden_r) * hidden_n)
    return (1 - z) * n + z * hidden


def elman_cell(
    x: mx.array,
    hidden: mx.array,
    weight_ih: mx.array,
    weight_hh: mx.array,
    bias_ih: mx.array | float = 0,
    bias_hh: mx.array | float = 0,
) -> mx.array:
    """One step of a plain recurrent layer with tanh: the new hidden state."""
    return mx.tanh(x @ weight_ih.T + bias_ih + hidden @ weight_hh.T + bias_hh)


def elman_relu_cell(
    x: mx.array,
    hidden: mx.array,
    weight_ih: mx.array,
    weight_hh: mx.array,
    bias_ih: mx.array | float = 0,
    bias_hh: mx.array | float = 0,
) -> mx.array:
    """One step of a plain recurrent layer with relu: the new hidden state."""
    return nn.relu(x @ weight_ih.T + bias_ih + hidden @ weight_hh.T + bias_hh)
