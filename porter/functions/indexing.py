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
    if not len(values):
        return x
    places = mx.maximum(mx.cumsum(mask.flatten().astype(mx.int32)) - 1, 0)
    rows = values[mx.minimum(places, len(values) - 1)].reshape(*mask.shape, *values.shape[1:])
    return mx.where(mask.reshape(*mask.shape, *[1] * (values.ndim - 1)), rows, x)


def nonzero(x: mx.array) -> mx.array:
    """The positions (count, axes) of what is not 0, in order.

    Waits for the count on the host: the size of the result depends on the data.
    """
    flags = (x != 0).flatten()
    count = flags.sum().item()  # S2: how many places there are depends on the data
    cells = mx.sort(mx.where(flags, mx.arange(flags.size), flags.size))[:count]
    places: list[mx.array] = []
    for size in reversed(x.shape):
        places.insert(0, cells % size)
        cells = cells // size
    return mx.stack(places, axis=-1).astype(mx.int64)


def masked_select(x: mx.array, mask: mx.array) -> mx.array:
    """The elements where a mask over the first axes is True; waits for their count on the host."""
    return x[tuple(nonzero(mask).T)]


def runs(is_first: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """Where runs begin, the run of each element, and the runs' lengths; waits for their number on the host."""
    firsts = nonzero(is_first)[:, 0]
    ends = mx.concatenate([firsts[1:], mx.array([is_first.size], mx.int64)])
    return firsts, mx.cumsum(is_first.astype(mx.int64)) - 1, ends - firsts


def unique(x: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """The different elements in rising order, which of them each element is, and how often each occurs.

    Waits for their number on the host: the size of the result depends on the data.
    """
    flat = x.flatten()
    order = mx.argsort(flat)
    rising = flat[order]
    firsts, group, counts = runs(mx.concatenate([mx.array([True]), rising[1:] != rising[:-1]]))
    places = mx.put_along_axis(group, order, group, axis=0)
    return rising[firsts], places.reshape(x.shape), counts


def unique_consecutive(x: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """The first of each run of equal elements, the run of each element, and the runs' lengths.

    Waits for their number on the host: the size of the result depends on the data.
    """
    flat = x.flatten()
    firsts, group, counts = runs(mx.concatenate([mx.array([True]), flat[1:] != flat[:-1]]))
    return flat[firsts], group.reshape(x.shape), counts


def unique_slices(
    x: mx.array, axis: int, consecutive: bool = False
) -> tuple[mx.array, mx.array, mx.array]:
    """The different slices along an axis in rising order (or as they come, the first of each run), as `unique` does it."""
    moved = mx.moveaxis(x, axis, 0)
    rows = moved.reshape(len(moved), -1)
    order = mx.arange(len(rows))
    for column in [] if consecutive else reversed(range(rows.shape[1])):
        order = order[mx.argsort(rows[order, column])]
    rising = rows[order]
    changes = (rising[1:] != rising[:-1]).any(axis=1)
    firsts, group, counts = runs(mx.concatenate([mx.array([True]), changes]))
    places = mx.put_along_axis(group, order, group, axis=0)
    return mx.moveaxis(moved[order[firsts]], 0, axis), places, counts


def repeat_by(x: mx.array, repeats: mx.array, axis: int, total: int | None = None) -> mx.array:
    """Each slice along an axis as often as `repeats` says; waits for their number on the host without `total`."""
    ends = mx.cumsum(mx.broadcast_to(repeats, (x.shape[axis],)))
    # S2: how many rows there are in all depends on the data
    count: int = ends[-1].item() if total is None else total  # type: ignore[assignment]
    return mx.take(
        x, mx.searchsorted(ends, mx.arange(count, dtype=ends.dtype), side="right"), axis=axis
    )


def nonzero_padded(x: mx.array, count: int, fill: int = -1) -> mx.array:
    """The first `count` positions (count, axes) of what is not 0, in order; `fill` where there are fewer."""
    flags = (x != 0).flatten()
    cells = mx.sort(mx.where(flags, mx.arange(flags.size), flags.size))[:count]
    cells = mx.pad(cells, (0, count - cells.size), constant_values=mx.array(flags.size))
    places: list[mx.array] = []
    rest = cells
    for size in reversed(x.shape):
        places.insert(0, rest % size)
        rest = rest // size
    return mx.where((cells < flags.size)[:, None], mx.stack(places, axis=-1), fill).astype(mx.int64)


def pairs(count: int) -> tuple[mx.array, mx.array]:
    """The first and the second of every pair of different numbers below `count`, in order."""
    found = mx.array([[i, j] for i in range(count) for j in range(i + 1, count)], dtype=mx.int32)
    found = found.reshape(-1, 2)
    return found[:, 0], found[:, 1]


def embedding_bag(
    weight: mx.array,
    indices: mx.array,
    offsets: mx.array,
    mode: str = "sum",
    scales: mx.array | None = None,
    padding: int | None = None,
) -> mx.array:
    """Rows of the weight, joined bag by bag: `offsets` says where each bag of indices begins. An empty bag gives 0."""
    bag = mx.searchsorted(offsets, mx.arange(indices.size, dtype=offsets.dtype), side="right") - 1
    counted = (indices >= 0 if padding is None else indices != padding)[:, None]
    rows = weight[indices] if scales is None else weight[indices] * scales[:, None]
    result = mx.zeros((offsets.size, weight.shape[1]), dtype=weight.dtype)
    number = (
        mx.zeros((offsets.size, 1), dtype=weight.dtype).at[bag].add(counted.astype(weight.dtype))
    )
    if mode == "max":
        most = (result - mx.inf).at[bag].maximum(mx.where(counted, rows, -mx.inf))
        return mx.where(number > 0, most, 0)
    result = result.at[bag].add(mx.where(counted, rows, 0))
    return result / mx.maximum(number, 1) if mode == "mean" else result


def bincount(x: mx.array, weights: mx.array | None = None, least: int = 0) -> mx.array:
    """How often each whole number occurs, or the sum of its weights; waits for the largest number on the host."""
    # S2: how many numbers are counted depends on the data
    largest: int = x.max().item()  # type: ignore[assignment]
    size = max(largest + 1, least)
    if weights is None:
        return mx.zeros(size, dtype=mx.int64).at[x].add(mx.ones_like(x))
    return mx.zeros(size, dtype=weights.dtype).at[x].add(weights)


def histogram(x: mx.array, bins: int, low: float, high: float) -> mx.array:
    """How many elements fall into each of `bins` equal parts from low to high; the last holds high as well."""
    return counts_between(x, bins, mx.array(low), mx.array(high))


def own_histogram(x: mx.array, bins: int) -> mx.array:
    """The histogram from the least element to the largest, or from one less to one more where they are equal."""
    low, high = x.min(), x.max()
    return counts_between(x, bins, low - (low == high), high + (low == high))


def counts_between(x: mx.array, bins: int, low: mx.array, high: mx.array) -> mx.array:
    """How many elements fall into each of `bins` equal parts between two scalars."""
    inside = (x >= low) & (x <= high)
    places = mx.clip(mx.floor((x - low) * (bins / (high - low))), 0, bins - 1).astype(mx.int32)
    return mx.zeros(bins, dtype=x.dtype).at[places].add(inside.astype(x.dtype))
