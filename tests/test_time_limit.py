"""Limits of CPU time, also one within another."""

from __future__ import annotations

import time

import pytest

from porter.time_limit import TimeLimitExceeded, time_limit


def work(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_work_that_takes_longer_is_ended() -> None:
    with pytest.raises(TimeLimitExceeded), time_limit(0.1):
        work(5)


def test_a_limit_within_another_ends_with_it() -> None:
    started = time.process_time()
    with pytest.raises(TimeLimitExceeded), time_limit(0.1), time_limit(60):
        work(5)
    assert time.process_time() - started < 2


def test_the_outer_limit_goes_on_behind_an_inner_one() -> None:
    def both() -> None:
        with time_limit(60):
            work(0.05)
        work(5)

    with pytest.raises(TimeLimitExceeded), time_limit(0.3):
        both()


def test_nothing_is_ended_behind_a_limit() -> None:
    with time_limit(0.2):
        work(0.01)
    work(0.4)
