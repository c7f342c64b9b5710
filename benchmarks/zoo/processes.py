"""One forked process for each case, with limits on CPU time and memory; the parent only reads what they send."""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.zoo.case import Case

#: A process may wait (for its turn on a busy machine) this many times its CPU time before it is ended.
WALL_FACTOR = 6


@dataclass(slots=True)
class _Child:
    case: Case
    pid: int
    pipe: int
    deadline: float
    buffer: bytes = b""
    record: dict[str, Any] = field(default_factory=dict)

    def read(self) -> bool:
        """Takes what has arrived; False at the end."""
        data = os.read(self.pipe, 1 << 16)
        self.buffer += data
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            self.record |= json.loads(line)
        return bool(data)


def run_all(
    cases: Iterable[Case],
    work: Callable[[Case, Callable[[dict[str, Any]], None]], None],
    jobs: int, seconds: int, gigabytes: float, logs: Path,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Runs `work(case, send)` for each case; yields what each has sent, in the order in which they end.

    "reason" says why one did not end by itself.
    """
    logs.mkdir(parents=True, exist_ok=True)
    waiting = iter(cases)
    selector = selectors.DefaultSelector()
    children: dict[int, _Child] = {}
    while True:
        while len(children) < jobs and (case := next(waiting, None)) is not None:
            child = _start(case, work, seconds, gigabytes, logs)
            children[child.pipe] = child
            selector.register(child.pipe, selectors.EVENT_READ)
        if not children:
            return
        for key, _ in selector.select(timeout=1.0):
            child = children[key.fd]
            if not child.read():
                selector.unregister(child.pipe)
                os.close(child.pipe)
                del children[child.pipe]
                yield _ended(child, seconds)
        for child in children.values():
            if time.monotonic() > child.deadline:
                os.kill(child.pid, signal.SIGKILL)


def _start(case: Case, work: Any, seconds: int, gigabytes: float, logs: Path) -> _Child:
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _limit(seconds, gigabytes)
        log = os.open(
            logs / f"{case.name.replace('/', '_')}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        )
        os.dup2(log, 1)
        os.dup2(log, 2)
        _work(case, work, writer)
    os.close(writer)
    return _Child(case, pid, reader, time.monotonic() + WALL_FACTOR * seconds)


def _limit(seconds: int, gigabytes: float) -> None:
    used, _ = os.times()[:2]
    limit = int(used) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    size = int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _work(case: Case, work: Any, writer: int) -> None:
    """The child's whole life."""

    def send(columns: dict[str, Any]) -> None:
        data = memoryview(json.dumps(columns).encode() + b"\n")
        while data:
            data = data[os.write(writer, data) :]

    status = 0
    try:
        work(case, send)
    except BaseException as error:  # noqa: BLE001 -- whatever it was is the case's result
        from benchmarks.zoo.measure import reason_of

        traceback.print_exc()
        send({"reason": reason_of(error)})
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _ended(child: _Child, seconds: int) -> dict[str, Any]:
    _, status, usage = os.wait4(child.pid, 0)
    record = {"case": child.case.name, **child.record}
    record["cpu_seconds"] = round(usage.ru_utime + usage.ru_stime, 1)
    record["peak_gb"] = round(usage.ru_maxrss / 2**20, 2)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        late = number in (signal.SIGXCPU, signal.SIGKILL) and record["cpu_seconds"] >= seconds - 1
        why = (
            f"took over {seconds} s of CPU time"
            if late
            else f"ended by {signal.Signals(number).name}"
        )
        record["reason"] = f"{why} in: {record.get('stage', 'start')}"
    return record
