"""Intervals, warm-up and what is said where they overlap."""

from __future__ import annotations

import pytest

from porter.validate.speed import Lane, bootstrap, measure, noise_floor, overlap


class Clock:
    """A side whose calls take given times."""

    def __init__(self, seconds, first=None):
        self.seconds, self.first, self.asked = seconds, first or seconds, []

    def ask(self, command):
        self.asked.append(command["mode"])
        if command["mode"] not in ("eager", "compiled"):
            return {"unavailable": "no"}
        jitter = 1 + 0.001 * (len(self.asked) % 3)
        return {"seconds": [(self.first if len(self.asked) == 1 else self.seconds) * jitter]}

    def close(self):
        pass


def test_ratio_compares_medians_and_first_call_is_apart():
    sides = {"reference": Clock(0.02), "candidate": Clock(0.01, first=3.0)}
    found = measure(sides, seconds=0.2)
    assert found["ratio_to_reference"] == pytest.approx(2, rel=0.01)
    eager = next(r for r in found["runs"] if (r["side"], r["mode"]) == ("candidate", "eager"))
    assert eager["first_ms"] == pytest.approx(3000, rel=0.01)
    assert eager["median_ms"] == pytest.approx(10, rel=0.01)
    assert any("compiled: inconclusive" in note for note in found["notes"])


def test_nothing_to_time_is_null():
    assert measure({"reference": Clock(1)}, 0.1, (("reference", "cuda-graph"),)) is None


def test_bootstrap_holds_the_median():
    low, high = bootstrap([1.0, 1.1, 0.9, 1.05, 0.95])
    assert low <= 1.0 <= high
    assert overlap([1.0, 1.1], [1.05, 1.2])
    assert not overlap([1.0, 1.01], [2.0, 2.01])


def test_noise_floor():
    assert noise_floor([1.0]) == 0
    assert noise_floor([1.0, 1.1, 1.0, 1.1]) == pytest.approx(0.1 / 1.05)


def test_warming_stops_when_it_is_steady():
    lane = Lane("candidate", "eager", Clock(0.01))
    lane.warm(until=1e18)
    assert len(lane.peer.asked) == 4
