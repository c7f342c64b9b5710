"""What the port must do whatever the reference says: checks of its behaviour that need MLX only."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map

from porter import loading
from porter.generate import encodes
from porter.validate import decoding
from porter.validate.metrics import Array, error

#: Above this many bytes of weights the port is not loaded a second time.
RELOAD_LIMIT = 4 * 2**30
AxisPair = tuple[list[int | None], list[int | None]]


def behaviour(
    model: nn.Module,
    inputs: list[mx.array],
    other: list[mx.array] | None,
    axes: AxisPair,
    directory: str,
) -> tuple[dict[str, Any], bool]:
    """E of each check per output against the plain eager call, and whether calls change the state.

    E is 0 where both are exactly equal. A check that raised has {"error": why}; one that can't be
    made here is missing.
    """
    before, state = fingerprint(model), tree_map(lambda value: value, model.parameters())
    try:
        first = run(model, inputs)
    except Exception as reason:  # noqa: BLE001 -- the port's code may raise anything
        return {"runs": _failed(reason)}, False
    found = {"again": _attempt(lambda: gaps(run(model, inputs), first))}
    batched = bool(inputs) and all(a is not None for a in [*axes[0], *axes[1]])
    if batched and inputs[0].shape[_axis(axes[0], 0)] > 1:
        found["row alone"] = _attempt(lambda: row_alone(model, inputs, first, axes))
    if sum(v.nbytes for _, v in tree_flatten(model.parameters())) < RELOAD_LIMIT:
        found["reloaded"] = _attempt(lambda: reloaded(model, inputs, first, directory))
    if decoding.takes_cache(model):
        found["decode"] = _attempt(lambda: decoding.decoded(model, inputs))
        padding = _attempt(lambda: decoding.padded(model, inputs) or {})
        if padding["error"] or "gaps" in padding:
            found["left padding"] = padding
    elif encodes(model):
        found["decode"] = _attempt(lambda: decoding.decoded_after(model, inputs))
    changed = fingerprint(model) != before
    # Last, since a call that stores traced arrays in the model leaves it broken.
    found["compiled"] = _attempt(lambda: compiled(model, inputs, other))
    model.update(state)
    return found, changed


def _failed(reason: Exception) -> dict[str, Any]:
    return {"error": f"{type(reason).__name__}: {reason}"[:300], "gaps": []}


def _attempt(check: Any) -> dict[str, Any]:
    try:
        return {"error": "", **check()}
    except Exception as reason:  # noqa: BLE001 -- the port's code may raise anything
        return _failed(reason)


def run(model: Any, inputs: list[mx.array]) -> list[Array]:
    from porter.validate.candidate import leaves

    outputs = list(leaves(model(*inputs)))
    mx.eval(outputs)
    return [numpy(value) for value in outputs]


def numpy(value: mx.array) -> Array:
    narrow = value.dtype in (mx.float16, mx.bfloat16)
    return np.array(value.astype(mx.float32) if narrow else value)


def gaps(z: list[Array], y: list[Array]) -> dict[str, Any]:
    if len(z) != len(y):
        raise ValueError(f"{len(z)} outputs for {len(y)}")
    return {"gaps": [error(a, _wide(b)) for a, b in zip(z, y, strict=True)]}


def _wide(y: Array) -> Array:
    return y.astype(np.float64) if y.dtype.kind == "f" else y


def compiled(
    model: nn.Module, inputs: list[mx.array], other: list[mx.array] | None
) -> dict[str, Any]:
    """Compiled against eager, on the given sizes and on others, twice each; counts the traces.

    The counter is Python code in the function, which runs only while MLX traces.
    """
    traces = 0

    def forward(*args: mx.array) -> Any:
        nonlocal traces
        traces += 1
        return _plain(model(*args))

    fast = mx.compile(forward)
    shapes = [inputs] if other is None else [inputs, other]
    worst: list[float] = []
    for _ in range(2):
        for args in shapes:
            found = gaps(run(fast, args), run(model, args))["gaps"]
            worst = [max(a, b) for a, b in zip(worst or found, found, strict=True)]
    return {"gaps": worst, "retraces": traces - len(shapes)}


def _plain(result: Any) -> Any:
    """mx.compile takes trees of arrays only."""
    from porter.validate.candidate import leaves

    return result if isinstance(result, mx.array) else list(leaves(result))


def row_alone(
    model: nn.Module, inputs: list[mx.array], whole: list[Array], axes: AxisPair
) -> dict[str, Any]:
    """The last row of the batch by itself against the same row in the batch."""
    alone = [mx.take(x, mx.array([x.shape[a] - 1]), axis=a) for x, a in _pairs(inputs, axes[0])]
    rows = [np.take(y, [y.shape[a] - 1], axis=a) for y, a in _pairs(whole, axes[1])]
    return gaps(run(model, alone), rows)


def _pairs(values: Any, axes: list[int | None]) -> Any:
    return [(v, _axis(axes, i)) for i, v in enumerate(values)]


def _axis(axes: list[int | None], index: int) -> int:
    axis = axes[index]
    assert axis is not None
    return axis


def reloaded(
    model: nn.Module, inputs: list[mx.array], whole: list[Array], directory: str
) -> dict[str, Any]:
    """Weights saved, loaded strictly into a fresh instance, and run."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "again.safetensors")
        model.save_weights(file)
        fresh = loading.load(directory)
        fresh.load_weights(file, strict=True)
        return gaps(run(fresh, inputs), whole)


def fingerprint(model: nn.Module) -> dict[str, int]:
    """A sum over each parameter's bytes: changes when the state does."""
    sums = {name: mx.sum(_bytes(value)) for name, value in tree_flatten(model.parameters())}
    mx.eval(sums)
    return {name: int(str(value.item())) for name, value in sums.items()}


def _bytes(value: mx.array) -> mx.array:
    flat = value.reshape(-1)
    weights = mx.arange(flat.size, dtype=mx.uint32) % 65521 + 1
    if value.dtype == mx.bool_:
        return flat.astype(mx.uint32) * weights
    kinds = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}
    return flat.view(kinds[value.dtype.size]).astype(mx.uint32) * weights
