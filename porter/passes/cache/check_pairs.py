"""Whether what was lifted gives for the last tokens of a text what the plain forward gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np
import sympy

from porter.ir import Value
from porter.ir.evaluate import Unknown
from porter.passes.cache.plan import NotLifted
from porter.passes.masks import HIDDEN
from porter.passes.positions import as_array, at_length

if TYPE_CHECKING:
    from porter.passes.cache.lift_pairs import LiftPairs

_SHORT, _LONG = 5, 9
_FEW = 4  # what stands in for the large number of keys that are chosen at most


def check_pairs(lift: LiftPairs, bias: Value, lifted: Value) -> None:
    """Raises NotLifted unless `lifted` gives the last rows of the whole bias, wherever positions start.

    Of what is made of the tokens themselves, each query's row must be the same in a longer text too.
    """
    entries = [*lift.own, *lift.fetched]
    try:
        for few in _choices(bias, entries):
            _check(lift, bias, lifted, few)
    except (Unknown, ValueError, IndexError, RuntimeError) as error:
        raise NotLifted(f"it can't be evaluated ({error})") from error


def _check(lift: LiftPairs, bias: Value, lifted: Value, few: dict[sympy.Basic, int]) -> None:
    program, entries = lift.program, [*lift.own, *lift.fetched]
    weights = {v: _random(v) for v in _parameters(bias, entries)}
    sizes = at_length(program, _LONG)
    rows = {
        v: mx.random.normal([sizes.size(s) for s in v.shape], key=mx.random.key(i))
        for i, v in enumerate(entries)
    }
    axes = {v: v.shape.index(lift.length) for v in entries}

    def whole(length: int) -> np.ndarray:
        cut = {v: mx.take(x, mx.arange(length), axis=axes[v]) for v, x in rows.items()}
        run = at_length(program, length, {**weights, **cut})
        run.sizes |= few
        return as_array(run(bias))

    expected = whole(_LONG)
    if entries:
        _compare_visible(whole(_SHORT), expected)
    for start in (0, 4):
        counts = mx.arange(start, start + _LONG)
        known = {**weights, lift.counts["keys"]: counts, lift.counts["queries"]: counts[-_SHORT:]}
        known[lift.mask] = _visible(_LONG, lift.sight.window)[-_SHORT:]
        known |= {
            v: mx.take(rows[v], mx.arange(_LONG - _SHORT, _LONG), axis=axes[v]) for v in lift.own
        }
        for value, fetched in lift.fetched.items():
            assert fetched.node is not None
            known[fetched] = at_length(program, _LONG, {value: rows[value]})(fetched.node.args[0])
        probe = at_length(program, _SHORT, known)
        probe.sizes |= {lift.keys: _LONG, **few}
        _compare(as_array(probe(lifted)), expected, np.array(known[lift.mask]))


def _visible(length: int, window: int | None) -> mx.array:
    place = mx.arange(length)
    seen = place[:, None] >= place
    return seen if window is None else seen & (place[:, None] < place + window)


def _choices(bias: Value, entries: list[Value]) -> Iterator[dict[sympy.Basic, int]]:
    """The numbers as they are, and small ones in the place of those that bound how many keys are chosen."""
    yield {}
    sizes = [
        size
        for value in _made(bias, entries)
        for size in value.shape
        if isinstance(size, sympy.Basic)
    ]
    bounds = {n for size in sizes for n in size.atoms(sympy.Integer) if n >= _LONG}
    if bounds:
        yield dict.fromkeys(bounds, _FEW)


def _compare(rows: np.ndarray, whole: np.ndarray, visible: np.ndarray) -> None:
    """Equal to the last rows where keys are visible, but for a number in each row where they are added to scores."""
    rank = max(rows.ndim, 2)
    rows, whole = (x.reshape((1,) * (rank - x.ndim) + x.shape) for x in (rows, whole))
    if whole.shape[-2] > 1:
        whole = whole[..., -rows.shape[-2] :, :]
    if rows.shape != whole.shape:
        raise NotLifted("it has other axes than queries and keys")
    if rows.shape[-2] == 1:
        visible = visible[-1:]
    if rows.dtype == bool:
        rows, whole = rows & visible, whole & visible
    else:
        seen = visible & (rows >= HIDDEN) & (whole >= HIDDEN)
        if not (seen == (visible & ((rows >= HIDDEN) | (whole >= HIDDEN)))).all():
            raise NotLifted("it hides other keys")
        most = [np.where(seen, x, -np.inf).max(axis=-1, keepdims=True) for x in (rows, whole)]
        with np.errstate(invalid="ignore"):
            rows, whole = (
                np.where(seen, x - m, 0) for x, m in zip((rows, whole), most, strict=True)
            )
    if not np.allclose(rows, whole, rtol=1e-5, atol=1e-5):
        raise NotLifted("it depends on more than the distance of positions")


def _random(parameter: Value) -> mx.array:
    if parameter.data is not None:
        return mx.array(np.asarray(parameter.data))
    return mx.random.normal(tuple(parameter.shape), key=mx.random.key(1))


def _compare_visible(short: np.ndarray, whole: np.ndarray) -> None:
    """What queries see of the keys up to them must not change with the tokens that follow."""
    rows, keys = short.shape[-2:]
    whole = whole[..., : rows if whole.shape[-2] > 1 else 1, :keys]
    seen = np.tri(rows, keys, dtype=bool) if rows > 1 else np.ones((1, keys), bool)
    if short.shape != whole.shape or not np.allclose(
        np.where(seen, short, 0), np.where(seen, whole, 0), rtol=1e-5, atol=1e-5
    ):
        raise NotLifted("it depends on the tokens that follow")


def has_weights(value: Value) -> bool:
    """Whether it is made from parameters without elements at hand."""
    return any(v.data is None for v in _parameters(value, []))


def _parameters(value: Value, entries: list[Value]) -> list[Value]:
    return [v for v in _made(value, entries) if v.is_parameter]


def _made(value: Value, entries: list[Value]) -> Iterator[Value]:
    """The value and all that it is made from, as far as the entries."""
    stack, seen = [value], set()
    while stack:
        item = stack.pop()
        if item in seen or item in entries:
            continue
        seen.add(item)
        yield item
        if item.node is not None:
            stack += item.node.inputs()
