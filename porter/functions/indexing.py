"""Reads and writes by index arrays."""

from collections.abc import Sequence

import mlx.core as mx


def index_put(x: mx.array, indices: Sequence[mx.array | None], values: mx.array) -> mx.array:
    """A copy of x with values at the indices, of which None stands for all of an axis."""
    x = mx.array(x)
    x[tuple(slice(None) if index is None else index for index in indices)] = values
    return x


def index_add(x: mx.array, indices: Sequence[mx.array | None], values: mx.array) -> mx.array:
    """x with values added at the indices, of which None stands for all of an axis."""
    return x.at[tuple(slice(None) if index is None else index for index in indices)].add(values)


def along_axis(index: mx.array, axis: int) -> list[mx.array]:
    """The index arrays of every element whose place along one axis `index` gives."""
    places = [
        mx.arange(size).reshape(-1, *[1] * (index.ndim - other - 1))
        for other, size in enumerate(index.shape)
    ]
    places[axis] = index
    return places


def scatter(x: mx.array, index: mx.array, updates: mx.array, axis: int) -> mx.array:
    """A copy of x with the updates at places along one axis; the index array may leave out a part of the others."""
    return index_put(x, along_axis(index, axis), updates)


def scatter_add(x: mx.array, index: mx.array, updates: mx.array, axis: int) -> mx.array:
    """x with the updates added at places along one axis."""
    return x.at[tuple(along_axis(index, axis))].add(updates)


def scatter_reduce(
    x: mx.array,
    indices: Sequence[mx.array | None],
    updates: mx.array,
    reduce: str,
    start: float | None = None,
) -> mx.array:
    """x joined with all updates of a place by "prod", "mean", "amax" or "amin".

    With `start` the places that are updated begin from it instead of their elements.
    """
    key = tuple(slice(None) if index is None else index for index in indices)
    if start is not None:
        x = index_put(x, indices, mx.array(start, dtype=x.dtype))
    if reduce == "prod":
        return x.at[key].multiply(updates)
    if reduce == "amax":
        return x.at[key].maximum(updates)
    if reduce == "amin":
        return x.at[key].minimum(updates)
    count = mx.ones_like(x) if start is None else index_put(mx.ones_like(x), indices, mx.array(0))
    count = count.at[key].add(mx.ones_like(updates))
    return x.at[key].add(updates) / mx.maximum(count, 1)


def masked_put(x: mx.array, mask: mx.array, values: mx.array) -> mx.array:
    """x with the next of the values, in order, at each True of a mask over its first axes."""
    places = mx.maximum(mx.cumsum(mask.flatten().astype(mx.int32)) - 1, 0)
    rows = values[mx.minimum(places, len(values) - 1)].reshape(*mask.shape, *values.shape[1:])
    return mx.where(mask.reshape(*mask.shape, *[1] * (values.ndim - 1)), rows, x)


def nonzero(x: mx.array) -> mx.array:
    """The positions (count, axes) of what is not 0, in order.

    Waits for the count on the host: the size of the result depends on the data.
    """
    flags = (x != 0).flatten()
    count = flags.sum().item()
    cells = mx.sort(mx.where(flags, mx.arange(flags.size), flags.size))[:count]
    places: list[mx.array] = []
    for size in reversed(x.shape):
        places.insert(0, cells % size)
        cells = cells // size
    return mx.stack(places, axis=-1).astype(mx.int64)


def masked_select(x: mx.array, mask: mx.array) -> mx.array:
    """The elements where a mask over the first axes is True; waits for their count on the host."""
    return x[tuple(nonzero(mask).T)]


def unique(x: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """The different elements in rising order, which of them each element is, and how often each occurs.

    Waits for their number on the host: the size of the result depends on the data.
    """
    order = mx.argsort(x.flatten())
    rising = x.flatten()[order]
    is_first = mx.concatenate([mx.array([True]), rising[1:] != rising[:-1]])
    group = mx.cumsum(is_first.astype(mx.int64)) - 1
    places = mx.put_along_axis(group, order, group, axis=0).reshape(x.shape)
    firsts = nonzero(is_first)[:, 0]
    ends = mx.concatenate([firsts[1:], mx.array([x.size])])
    return rising[firsts], places, ends - firsts


def unique_consecutive(x: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """The first of each run of equal elements, the run of each element, and the runs' lengths.

    Waits for their number on the host: the size of the result depends on the data.
    """
    flat = x.flatten()
    is_first = mx.concatenate([mx.array([True]), flat[1:] != flat[:-1]])
    places = (mx.cumsum(is_first.astype(mx.int64)) - 1).reshape(x.shape)
    firsts = nonzero(is_first)[:, 0]
    ends = mx.concatenate([firsts[1:], mx.array([x.size])])
    return flat[firsts], places, ends - firsts


def bincount(x: mx.array, weights: mx.array | None = None, least: int = 0) -> mx.array:
    """How often each whole number occurs, or the sum of its weights; waits for the largest number on the host."""
    largest: int = x.max().item()  # type: ignore[assignment]
    size = max(largest + 1, least)
    if weights is None:
        return mx.zeros(size, dtype=mx.int64).at[x].add(mx.ones_like(x))
    return mx.zeros(size, dtype=weights.dtype).at[x].add(weights)


def histogram(x: mx.array, bins: int, low: float, high: float) -> mx.array:
    """How many elements fall into each of `bins` equal parts from low to high; the last holds high as well."""
    inside = (x >= low) & (x <= high)
    places = mx.clip(mx.floor((x - low) * (bins / (high - low))), 0, bins - 1).astype(mx.int32)
    return mx.zeros(bins, dtype=x.dtype).at[places].add(inside.astype(x.dtype))
