"""Speed of both sides, interleaved A B B A, with an honest interval around each ratio."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from porter.validate.protocol import Progress, Side

#: Warm-up ends when this many successive times agree within AGREE, or after WARM_CALLS.
STEADY, AGREE, WARM_CALLS = 3, 0.05, 10
RESAMPLES = 2000
MODES = (("reference", "eager"), ("candidate", "eager"), ("candidate", "compiled"))


@dataclass(slots=True)
class Lane:
    """One side in one mode: its times in seconds, and the first call apart."""

    side: str
    mode: str
    peer: Side
    seconds: list[float] = field(default_factory=list)
    first: float = 0.0
    unavailable: str = ""

    def ask(self, count: int) -> list[float]:
        answer = self.peer.ask({"do": "time", "mode": self.mode, "count": count})
        if "unavailable" in answer:
            self.unavailable = str(answer["unavailable"])
            return []
        return [float(s) for s in answer["seconds"]]

    def warm(self, until: float) -> None:
        """The first call is the compile time; then until three times agree."""
        times: list[float] = []
        for _ in range(WARM_CALLS):
            times += self.ask(1)
            if self.unavailable:
                return
            last = times[-STEADY:]
            if len(times) > STEADY and max(last) <= (1 + AGREE) * min(last):
                break
            if time.monotonic() > until:
                break
        self.first = times[0]

    def summary(self) -> dict[str, Any]:
        times = np.array(self.seconds) * 1e3
        return {
            "side": self.side, "mode": self.mode,
            "median_ms": float(np.median(times)), "p90_ms": float(np.quantile(times, 0.9)),
            "n": len(self.seconds), "first_ms": self.first * 1e3,
            "interval_ms": [x * 1e3 for x in bootstrap(self.seconds)],
            "noise_floor": noise_floor(self.seconds),
        }  # fmt: skip


def measure(
    sides: dict[str, Side],
    seconds: float = 10.0,
    modes: tuple[tuple[str, str], ...] = MODES,
    progress: Progress = lambda _: None,
) -> dict[str, Any] | None:
    """report.json's "speed": every mode of the given sides, within about `seconds`."""
    lanes = [Lane(side, mode, sides[side]) for side, mode in modes if side in sides]
    start = time.monotonic()
    for lane in lanes:
        progress(f"speed: warming {lane.side} {lane.mode}")
        lane.warm(start + seconds / 2)
    lanes = [lane for lane in lanes if not lane.unavailable]
    if not lanes:
        return None
    progress("speed: timing")
    while True:
        for lane in [*lanes, *reversed(lanes)]:  # A B B A
            lane.seconds += lane.ask(1)
        if time.monotonic() - start > seconds or min(len(x.seconds) for x in lanes) >= 200:
            break
    return summarize(lanes)


def summarize(lanes: list[Lane]) -> dict[str, Any]:
    """Ratios are the other side's median over the port's: above 1 the port is faster."""
    named = {(lane.side, lane.mode): lane.seconds for lane in lanes if lane.seconds}
    eager = named.get(("candidate", "eager"))
    fast = named.get(("candidate", "compiled"))
    torch = named.get(("reference", "eager"))
    best = fast or eager
    notes = [
        f"{name}: inconclusive, the intervals overlap"
        for name, a, b in (("reference", torch, best), ("compiled", eager, fast))
        if a and b and overlap(a, b)
    ]
    return {
        "runs": [lane.summary() for lane in lanes if lane.seconds],
        "ratio_to_reference": ratio(torch, best),
        "ratio_compiled_to_eager": ratio(eager, fast),
        "notes": notes,
    }


def ratio(slow: list[float] | None, fast: list[float] | None) -> float | None:
    if not slow or not fast:
        return None
    return float(np.median(slow) / np.median(fast))


def bootstrap(seconds: list[float], level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the median (Efron 1979), with a fixed seed."""
    times = np.array(seconds)
    picks = np.random.default_rng(0).integers(0, len(times), (RESAMPLES, len(times)))
    medians = np.median(times[picks], axis=1)
    low, high = np.quantile(medians, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def overlap(a: list[float], b: list[float]) -> bool:
    (low_a, high_a), (low_b, high_b) = bootstrap(a), bootstrap(b)
    return low_a <= high_b and low_b <= high_a


def noise_floor(seconds: list[float]) -> float:
    """A/A: how far apart, relatively, the medians of the even and the odd calls are."""
    if len(seconds) < 2:
        return 0.0
    even, odd = np.median(seconds[::2]), np.median(seconds[1::2])
    return float(abs(even - odd) / np.median(seconds))
