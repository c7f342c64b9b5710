"""Recurrent layers: one mlx.nn layer for each of torch's layers and directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from porter.frontends.whole_recurrences import RECURRENCES
from porter.ir import Size, Value
from porter.lowering.parameters import are_parameters
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering
from porter.weights import recipes

_CELLS = {"lstm": "nn.LSTM", "gru": "nn.GRU", "rnn_tanh": "nn.RNN", "rnn_relu": "nn.RNN"}


@lowering(
    "aten.lstm.input", "aten.gru.input", "aten.rnn_tanh.input", "aten.rnn_relu.input",
    *(f"porter.{name}.default" for name in RECURRENCES),
)  # fmt: skip
def recurrent(
    call: Call, x: Value, state: Any, weights: Sequence[Value], has_biases: bool, layers: int, dropout: float,
    training: bool, bidirectional: bool, batch_first: bool,
) -> list[Value]:  # fmt: skip
    """The sequence of hidden states, then the last ones (and last cells) of each layer and direction."""
    rest = (weights, has_biases, layers, bidirectional, batch_first)
    return _layers(call, call.name.split(".")[1], x, state, *rest)


@lowering(*(f"porter.{name}_by_length.default" for name in RECURRENCES))
def recurrent_by_length(
    call: Call, x: Value, lengths: Value, state: Any, weights: Sequence[Value], has_biases: bool, layers: int,
    dropout: float, training: bool, bidirectional: bool,
) -> list[Value]:  # fmt: skip
    """The same over sequences of several lengths in one array: the last states are those of their last steps."""
    kind = call.name.split(".")[1].removesuffix("_by_length")
    rest = (weights, has_biases, layers, bidirectional, True)
    outputs, *last = _layers(call, kind, x, state, *rest, lengths)
    return [_by_length(call, "fn.zero_padding", outputs, lengths), *last]


def _layers(
    call: Call, kind: str, x: Value, state: Any, weights: Sequence[Value], has_biases: bool, layers: int,
    bidirectional: bool, batch_first: bool, lengths: Value | None = None,
) -> list[Value]:  # fmt: skip
    build = call.build
    states = list(state) if isinstance(state, (list, tuple)) else [state]
    directions = 2 if bidirectional else 1
    per_cell = len(weights) // (layers * directions)
    projected = per_cell - (4 if has_biases else 2)
    if not are_parameters(*weights):
        raise refuse(call, "its weights are computed")
    first = x.rank == 3 and not batch_first
    x = build.transpose(x, (1, 0, 2)) if first else x
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
            sequence = _flipped(call, x, lengths) if direction else x
            results = (
                _projected(call, sequence, start, own)
                if projected
                else _cell(call, kind, sequence, start, own, path)
            )
            for position, result in enumerate(results):
                if lengths is not None:
                    last[position].append(_by_length(call, "fn.last_steps", result, lengths))
                    continue
                key = (*[slice(None)] * (result.rank - 2), -1)
                shape = (*result.shape[:-2], result.shape[-1])
                last[position].append(build.index(result, key, shape))
            outputs.append(_flipped(call, results[0], lengths) if direction else results[0])
        x = outputs[0]
        if directions == 2:
            shape = (*x.shape[:-1], 2 * x.shape[-1])
            x = build.op("mx.concatenate", outputs, shape=shape, dtype=x.dtype, axis=x.rank - 1)
    x = build.transpose(x, (1, 0, 2)) if first else x
    return [x, *(_stacked(call, values) for values in last)]


@lowering(
    "aten.lstm_cell.default", "aten.gru_cell.default", "aten.rnn_tanh_cell.default", "aten.rnn_relu_cell.default"
)  # fmt: skip
def recurrent_cell(
    call: Call, x: Value, state: Any, weight_ih: Value, weight_hh: Value,
    bias_ih: Value | None = None, bias_hh: Value | None = None,
) -> Any:  # fmt: skip
    """One step: the new hidden state, and of an LSTM the new cell."""
    kind = call.name.split(".")[1]
    states = list(state) if isinstance(state, (list, tuple)) else [state]
    shapes = [shape for shape, _ in call.outputs]
    dtypes = [dtype for _, dtype in call.outputs]
    biases = [] if bias_ih is None else [bias_ih, bias_hh]
    node = call.build.node(
        f"fn.{kind.replace('rnn_tanh', 'elman').replace('rnn_relu', 'elman_relu')}",
        x, *states, weight_ih, weight_hh, *biases, shapes=shapes, dtypes=dtypes,
    )  # fmt: skip
    return node.outputs if len(node.outputs) > 1 else node.output


def _initial(call: Call, state: Value, number: int) -> Value | None:
    """None for zeros, which mlx.nn starts from by itself."""
    if state.node is not None and state.node.op == "mx.zeros":
        return None
    return call.build.index(state, (number,), state.shape[1:])


def _by_length(call: Call, op: str, x: Value, lengths: Value) -> Value:
    shape = (x.shape[0], x.shape[-1]) if op == "fn.last_steps" else x.shape
    return call.build.op(op, x, lengths, shape=shape, dtype=x.dtype)


def _flipped(call: Call, x: Value, lengths: Value | None) -> Value:
    """The last step first; the steps are the last axis but one."""
    if lengths is not None:
        return _by_length(call, "fn.reversed_sequences", x, lengths)
    return call.build.index(x, (*[slice(None)] * (x.rank - 2), slice(None, None, -1)), x.shape)


def _stacked(call: Call, values: Sequence[Value]) -> Value:
    shape: tuple[Size, ...] = (len(values), *values[0].shape)
    if len(values) == 1:
        return call.build.op("mx.expand_dims", values[0], 0, shape=shape, dtype=values[0].dtype)
    return call.build.op("mx.stack", list(values), shape=shape, dtype=values[0].dtype, axis=0)


def _projected(
    call: Call, x: Value, start: Sequence[Value | None], own: Sequence[Value]
) -> list[Value]:
    """An LSTM layer whose hidden state is projected to a smaller one: its own weights, no layer of mlx.nn."""
    *weights, projection = own
    bias = None
    if len(weights) == 4:
        bias = Value(
            weights[2].shape,
            x.dtype,
            path=weights[2].path,
            recipe=recipes.add(weights[2].recipe, weights[3].recipe),
        )
    given: Any = dict(zip(("bias", "hidden", "cell"), (bias, *start), strict=True))
    node = call.build.node(
        "fn.lstm_projected", x, *weights[:2], projection,
        shapes=[(*x.shape[:-1], projection.shape[0]), (*x.shape[:-1], projection.shape[1])],
        dtypes=[x.dtype] * 2, **{key: value for key, value in given.items() if value is not None},
    )  # fmt: skip
    return node.outputs


def _cell(
    call: Call, kind: str, x: Value, start: Sequence[Value | None], own: Sequence[Value], path: str
) -> list[Value]:
    """One layer in one direction; its parameters go by mlx.nn's names."""
    hidden = own[1].shape[1]
    plain = kind.startswith("rnn")
    params = {
        "Wxh" if plain else "Wx": own[0],
        "Whh" if plain else "Wh": own[1],
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
    shape = (*x.shape[:-1], hidden)
    count = 2 if kind == "lstm" else 1
    attrs: dict[str, Any] = {
        "input_size": own[0].shape[1],
        "hidden_size": hidden,
        "bias": len(own) == 4,
    }
    if kind == "rnn_relu":
        attrs["nonlinearity"] = "nn.relu"
    node = call.build.node(
        _CELLS[kind],
        *args,
        shapes=[shape] * count,
        dtypes=[x.dtype] * count,
        attrs=attrs,
        params=values,
    )
    return node.outputs
