"""Recurrent layers: one mlx.nn layer for each of torch's layers and directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from porter.ir import Size, Value
from porter.lowering.parameters import are_parameters
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering
from porter.weights import recipes

_CELLS = {"lstm": "nn.LSTM", "gru": "nn.GRU", "rnn_tanh": "nn.RNN"}


@lowering("aten.lstm.input", "aten.gru.input", "aten.rnn_tanh.input")
def recurrent(
    call: Call, x: Value, state: Any, weights: Sequence[Value], has_biases: bool, layers: int, dropout: float,
    training: bool, bidirectional: bool, batch_first: bool,
) -> list[Value]:  # fmt: skip
    """The sequence of hidden states, then the last ones (and last cells) of each layer and direction."""
    build = call.build
    kind = call.name.split(".")[1]
    states = list(state) if isinstance(state, (list, tuple)) else [state]
    directions = 2 if bidirectional else 1
    per_cell = 4 if has_biases else 2
    hidden = weights[1].shape[1]
    gates = {"lstm": 4, "gru": 3, "rnn_tanh": 1}[kind]
    if not are_parameters(*weights) or len(weights) != layers * directions * per_cell:
        raise refuse(call, "its weights are computed, or there is a projection")
    if weights[0].shape[0] != gates * hidden or x.rank != 3:
        raise refuse(call, "a projection, or an input without a batch axis")
    x = x if batch_first else build.transpose(x, (1, 0, 2))
    last: list[list[Value]] = [[] for _ in states]
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            number = layer * directions + direction
            own = weights[number * per_cell : (number + 1) * per_cell]
            path = own[0].path.rpartition(".")[0] if own[0].path else ""
            if layers * directions > 1:
                path = f"{path}.layers.{number}"
            start = [_initial(call, value, number) for value in states]
            sequence = _flipped(call, x) if direction else x
            results = _cell(call, kind, sequence, start, own, path, hidden)
            for position, result in enumerate(results):
                final = build.index(result, (slice(None), -1), (result.shape[0], hidden))
                last[position].append(final)
            outputs.append(_flipped(call, results[0]) if direction else results[0])
        x = outputs[0]
        if directions == 2:
            shape = (*x.shape[:2], 2 * hidden)
            x = build.op("mx.concatenate", outputs, shape=shape, dtype=x.dtype, axis=2)
    x = x if batch_first else build.transpose(x, (1, 0, 2))
    return [x, *(_stacked(call, values) for values in last)]


def _initial(call: Call, state: Value, number: int) -> Value | None:
    """None for zeros, which mlx.nn starts from by itself."""
    if state.node is not None and state.node.op == "mx.zeros":
        return None
    return call.build.index(state, (number,), state.shape[1:])


def _flipped(call: Call, x: Value) -> Value:
    return call.build.index(x, (slice(None), slice(None, None, -1)), x.shape)


def _stacked(call: Call, values: Sequence[Value]) -> Value:
    shape: tuple[Size, ...] = (len(values), *values[0].shape)
    return call.build.op("mx.stack", list(values), shape=shape, dtype=values[0].dtype, axis=0)


def _cell(
    call: Call, kind: str, x: Value, start: Sequence[Value | None], own: Sequence[Value], path: str, hidden: int
) -> list[Value]:  # fmt: skip
    """One layer in one direction; its parameters go by mlx.nn's names."""
    params = {
        "Wxh" if kind == "rnn_tanh" else "Wx": own[0],
        "Whh" if kind == "rnn_tanh" else "Wh": own[1],
    }
    shapes = {name: (value.shape, value.recipe) for name, value in params.items()}
    if len(own) == 4:
        first, second = own[2].recipe, own[3].recipe
        if (
            kind == "gru"
        ):  # the new gate's hidden bias is inside the reset's product, so it stays apart
            cut = 2 * hidden
            both = recipes.add(recipes.slice(first, 0, 0, cut), recipes.slice(second, 0, 0, cut))
            shapes["b"] = (
                (3 * hidden,),
                recipes.concatenate([both, recipes.slice(first, 0, cut, 3 * hidden)], 0),
            )
            shapes["bhn"] = (hidden,), recipes.slice(second, 0, cut, 3 * hidden)
        else:
            shapes["bias"] = own[2].shape, recipes.add(first, second)
    values = {
        name: Value(tuple(shape), x.dtype, path=f"{path}.{name}".lstrip("."), recipe=recipe)
        for name, (shape, recipe) in shapes.items()
    }
    given = [value for value in start if value is not None]
    args = [x, *(start if given else [])]
    shape = (*x.shape[:2], hidden)
    count = 2 if kind == "lstm" else 1
    attrs = {"input_size": own[0].shape[1], "hidden_size": hidden, "bias": len(own) == 4}
    node = call.build.node(
        _CELLS[kind],
        *args,
        shapes=[shape] * count,
        dtypes=[x.dtype] * count,
        attrs=attrs,
        params=values,
    )
    return node.outputs
