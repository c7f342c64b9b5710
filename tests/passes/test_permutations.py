"""Orders of axes, and reshapes of arrays that are stored in another order."""

import itertools

import numpy as np
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._sympy.functions import FloorDiv

from porter.passes.layout.permutations import (
    axes_between,
    divides,
    identity,
    inserted,
    permuted_reshape,
    relabel,
    reshape_blocks,
    without,
)


def permutations(rank: int):
    return st.sampled_from(list(itertools.permutations(range(rank))))


@given(st.integers(1, 5).flatmap(lambda r: st.tuples(permutations(r), permutations(r))))
def test_axes_between_leads_from_one_order_to_the_other(pair):
    stored, wanted = pair
    array = np.empty(tuple(range(2, 2 + len(stored))))
    there = array.transpose(stored).transpose(axes_between(stored, wanted))
    assert there.shape == array.transpose(wanted).shape


@given(st.integers(1, 5).flatmap(lambda r: st.tuples(permutations(r), permutations(r))))
def test_relabel_is_the_storage_seen_through_a_transpose(pair):
    stored, axes = pair
    array = np.empty(tuple(range(2, 2 + len(stored))))
    assert (
        array.transpose(axes).transpose(relabel(stored, axes)).shape
        == array.transpose(stored).shape
    )


@given(
    st.integers(2, 5).flatmap(
        lambda r: st.tuples(permutations(r), st.sets(st.integers(0, r - 1), max_size=r - 1))
    )
)
def test_without_is_the_order_of_what_is_left(pair):
    stored, removed = pair
    array = np.empty([1 if axis in removed else axis + 2 for axis in range(len(stored))])
    left = [size for size in array.transpose(stored).shape if size != 1]
    assert array.squeeze(tuple(removed)).transpose(without(stored, removed)).shape == tuple(left)


@given(st.integers(1, 4).flatmap(lambda r: st.tuples(permutations(r), st.integers(0, r))))
def test_inserted_keeps_the_others_in_order(pair):
    stored, axis = pair
    order = inserted(stored, axis)
    assert sorted(order) == list(range(len(stored) + 1))
    assert without(order, {axis}) == stored


def factors(draw, sizes):
    """Splits and merges of sizes: a target with as many elements."""
    flat: list[int] = []
    for size in sizes:
        first = draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0]))
        flat += draw(st.sampled_from([[size], [first, size // first], [size, 1], [1, size]]))
    merged: list[int] = []
    for size in flat:
        if merged and draw(st.booleans()):
            merged[-1] *= size
        else:
            merged.append(size)
    return merged


@st.composite
def reshapes(draw):
    source = draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4))
    target = factors(draw, source)
    return source, target, draw(permutations(len(source)))


@settings(max_examples=300)
@given(reshapes())
def test_a_reshape_of_a_stored_array_is_the_stored_reshape(case):
    """Where permuted_reshape gives an order, reshaping the storage gives the target in that order, element by element."""
    source, target, stored = case
    order = permuted_reshape(source, target, stored)
    if order is None:
        return
    array = np.arange(np.prod(source)).reshape(source)
    direct = array.reshape(target).transpose(order)
    held = array.transpose(stored)
    np.testing.assert_array_equal(held.reshape(direct.shape), direct)


@given(reshapes())
def test_an_array_stored_as_it_is_can_always_be_reshaped(case):
    source, target, _ = case
    order = permuted_reshape(source, target, identity(len(source)))
    assert order is not None
    moved = [axis for axis in order if target[axis] != 1]
    assert moved == sorted(moved)


@given(reshapes())
def test_blocks_hold_equal_products(case):
    source, target, _ = case
    blocks = reshape_blocks(source, target)
    assert blocks is not None
    for left, right in blocks:
        assert np.prod([source[i] for i in left]) == np.prod([target[i] for i in right])
    assert [i for left, _ in blocks for i in left] == list(range(len(source)))
    assert [i for _, right in blocks for i in right] == list(range(len(target)))


def test_quotients_of_a_reshape_leave_no_rest():
    h, w = sympy.symbols("h w", integer=True, positive=True)
    blocks = [([0], [0, 1]), ([1], [2, 3])]
    assert reshape_blocks([h, w], [FloorDiv(h, 4), 4, FloorDiv(w, 4), 4]) == blocks
    assert reshape_blocks([FloorDiv(h, 2)], [FloorDiv(h, 8), 4]) == [([0], [0, 1])]
    # what one quotient cuts off, another may make up for: 3 // 2 * 2 * 3 is 3 * (3 // 2 * 2)
    assert reshape_blocks([FloorDiv(h, 2), 2, w], [h, FloorDiv(w, 2), 2]) is None


def test_a_size_of_zero_divides_nothing():
    assert not divides(0, 6)
    assert divides(3, 6)


def test_a_map_of_one_picture_is_flattened_though_its_channels_were_divided_out():
    """As torch writes `reshape(1, 32, -1)` behind strided convolutions."""
    height, width = sympy.symbols("h w", integer=True, positive=True)
    rows, columns = (FloorDiv(FloorDiv(size - 1, 4) - 7, 8) + 1 for size in (height, width))
    pixels = FloorDiv(columns * (32 * FloorDiv(FloorDiv(height - 1, 4) - 7, 8) + 32), 32)
    source, target = (1, 32, rows, columns), (1, 32, pixels)
    assert permuted_reshape(source, target, (0, 2, 3, 1)) == (0, 2, 1)
