"""A limit on the CPU time of a piece of work that can't be asked to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TimeLimitExceeded(Exception):
    """The work took longer than it was given."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeLimitExceeded in the main thread after `seconds` of CPU time; in another thread there is no limit.

    Within another limit it ends with that one at the latest.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGPROF"):
        yield
        return

    def expire(*_: Any) -> None:
        raise TimeLimitExceeded

    started = time.process_time()
    outer, _ = signal.getitimer(signal.ITIMER_PROF)
    previous = signal.signal(signal.SIGPROF, expire)
    signal.setitimer(signal.ITIMER_PROF, min(seconds, outer or seconds))
    try:
        yield
    finally:
        left = max(outer - (time.process_time() - started), 1e-3) if outer else 0
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
        signal.setitimer(signal.ITIMER_PROF, left)
