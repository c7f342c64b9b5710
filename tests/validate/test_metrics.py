"""E, NaN and integer rules, and the budget's three terms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from porter.validate.budget import CAP, budget, margin, rounding_ratio, verdict
from porter.validate.metrics import difference, error, rms, tokens

NAN, INF = float("nan"), float("inf")


def test_error_is_relative_root_mean_square():
    y = np.array([3.0, 4.0])
    assert error(y + 0.1, y) == pytest.approx(0.1 / math.sqrt(12.5))
    assert error(y, y) == 0


def test_rms_neither_overflows_nor_underflows():
    assert rms(np.full(3, 1e200)) == pytest.approx(1e200)
    assert rms(np.full(3, 1e-200)) == pytest.approx(1e-200)
    assert rms(np.zeros(0)) == 0


def test_zero_reference_takes_the_absolute_error():
    assert error(np.array([1e-3, 0]), np.zeros(2)) == pytest.approx(1e-3 / math.sqrt(2))


@pytest.mark.parametrize(
    ("z", "y", "problem"),
    [
        ([1.0, NAN], [1.0, 2.0], "NaN on one side"),
        ([1.0, 2.0], [1.0, NAN], "NaN on one side"),
        ([1.0, INF], [1.0, -INF], "saturated"),
        ([1.0, 2.0], [1.0, INF], "saturated"),
        ([1.0], [1.0, 2.0], "shape"),
    ],
)
def test_what_no_budget_covers(z, y, problem):
    found = difference(np.array(z), np.array(y))
    assert found.rms_rel == INF
    assert problem in found.problem
    assert margin(found.rms_rel, 1e-6) == CAP


def test_nan_in_the_same_place_is_equal_and_counted():
    found = difference(np.array([NAN, 1.0]), np.array([NAN, 1.0]))
    assert (found.rms_rel, found.shared_nan) == (0, 1)


def test_fills_of_different_precision_are_equal():
    z, y = np.array([-3.4e38, 1.0]), np.array([-1.8e308, 1.0])
    assert error(z, y) == 0


@pytest.mark.parametrize("kind", ["int64", "int32", "bool", "uint8"])
def test_integers_are_exact(kind):
    y = np.array([0, 1, 1]).astype(kind)
    assert error(y, y) == 0
    assert error(y[::-1], y) == INF


def test_complex_values_are_compared_whole():
    y = np.array([1 + 1j, 2 - 1j])
    assert error(y, y) == 0
    assert error(y.conj(), y) > 0.5


def test_tokens():
    y = np.random.default_rng(0).normal(size=(2, 5, 32))
    assert tokens(y, y) == {"top1_agreement": 1.0, "kl": 0.0}
    assert tokens(-y, y)["kl"] > 0.1


def test_budget_takes_the_largest_term():
    assert budget(1e-3, 1) == pytest.approx(3e-3)
    assert budget(0, 1024) == pytest.approx(4 * 32 * 2**-24)
    assert budget(0, 1, "float16") == pytest.approx(2 * 2**-11 / math.sqrt(3))
    assert budget(0, 1024, kappa=2, depth=4) == pytest.approx(4 * 4 * 32 * 2**-24)
    assert budget(1e-3, 1, ratio=4, depth=9) == pytest.approx(12e-3)


def test_torch_that_fails_gives_no_allowance():
    assert budget(INF, 1) == budget(0, 1)


@pytest.mark.parametrize(
    ("value", "band"), [(0, "pass"), (1, "pass"), (1.1, "warn"), (30, "warn"), (31, "fail")]
)
def test_bands(value, band):
    assert verdict(value) == band


def test_rounding_ratio_is_never_below_one_and_bounded():
    assert rounding_ratio([]) == 1
    assert rounding_ratio([(1e-8, 1e-7)]) == 1
    assert rounding_ratio([(4e-7, 1e-7)]) == pytest.approx(4)
    assert rounding_ratio([(1.0, 1e-7)]) == 16
