"""CanonicalSizes: sizes that are one number in every case have one expression."""

import sympy
from torch.utils._sympy.functions import FloorDiv

from porter.frontends.canonical_sizes import CanonicalSizes

S = sympy.Symbol("s", integer=True, positive=True)


def test_two_ways_to_one_length():
    sizes = CanonicalSizes({S: ("length", 16)})
    first = sizes(sympy.floor((S + 1) / 2))
    assert sizes(sympy.floor((S - 1) / 2) + 1) is first


def test_what_is_zero_at_large_sizes_alone_is_kept():
    sizes = CanonicalSizes({S: ("length", 16)})
    size = sympy.Max(0, 96 - S)
    assert sizes(size) == size
    assert sizes(1 - sympy.Max(0, 1 - S)) == 1


def test_a_batch_over_the_windows_of_a_large_image_is_not_zero():
    """A graph that was traced for one window holds the quotient all the same."""
    batch = sympy.Symbol("b", integer=True, positive=True)
    sizes = CanonicalSizes({batch: ("batch", 2), S: ("height", 30)})
    size = FloorDiv(batch, FloorDiv(S, 24))
    assert sizes(size) != 0


def test_the_larger_of_two_sizes_that_the_data_give_is_kept():
    first, second = sympy.symbols("u0 u1", integer=True, nonnegative=True)
    sizes = CanonicalSizes({S: ("length", 16)})
    assert sizes(second - first) == second - first
    size = sympy.Max(first, second) - first
    assert sizes(size) == size


def test_what_is_one_number_for_all_but_short_texts_is_kept():
    sizes = CanonicalSizes({S: ("length", 16)})
    assert sizes(sympy.Min(4, S)) == sympy.Min(4, S)
    assert CanonicalSizes({S: ("width", 16)})(sympy.Min(4, S)) == 4


def test_a_roundabout_way_to_a_line_is_the_line():
    sizes = CanonicalSizes({S: ("width", 16)})
    assert sizes(8 * sympy.ceiling((S - 1) / 1 + 1.0) + 4) == 8 * S + 4
    assert sizes(sympy.Max(0, S - 4)) == S - 4
    assert CanonicalSizes({S: ("length", 16)})(sympy.Max(0, S - 4)) == sympy.Max(0, S - 4)


def test_quotients_that_differ_at_some_remainders_alone_are_kept():
    """Two stages of a net whose maps are of one size at most sizes of a picture."""
    sizes = CanonicalSizes({S: ("width", 32)})
    first = FloorDiv(FloorDiv(S - 1, 2) - 3, 4) + 1
    second = FloorDiv(FloorDiv(S - 1, 4) - 1, 2) + 1
    assert first.subs(S, 13) != second.subs(S, 13)
    assert sizes(first) == first
    assert sizes(second) == second
    assert sizes(FloorDiv(S - 5, 8) + 1) is sizes(second)
