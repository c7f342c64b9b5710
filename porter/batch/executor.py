"""Runs jobs, each in a process of its own: a crash, a leak or a time limit is that job's alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from porter.batch.cache import Cache, job_key
from porter.batch.manifest import Job, Manifest

State = Literal["passed", "failed", "crashed", "timeout", "cached"]

TAIL = 20  # lines of a job's stderr that its result keeps
GRACE = 5.0  # seconds between the signals TERM and KILL


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended. `exit_code` is None where it was cached or ran into its time limit; `seconds` is wall time."""

    job: Job
    state: State
    exit_code: int | None
    seconds: float
    message: str = ""
    output: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        return self.state in ("passed", "cached")

    def to_dict(self) -> dict[str, Any]:
        """A row of the --json object's "jobs"."""
        return {
            "name": self.job.name,
            "command": self.job.command,
            "source": self.job.source,
            "out": str(self.job.out),
            "state": self.state,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "verdict": (self.output or {}).get("verdict"),
            "message": self.message,
        }


class Processes:
    """The jobs' processes that run now, so that an interrupt can end them."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self.stopping = False

    @contextlib.contextmanager
    def tracked(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        with self._lock:
            self._running.add(process)
            stopping = self.stopping
        if stopping:
            end_group(process)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(process)

    def stop(self) -> None:
        with self._lock:
            self.stopping = True
            running = list(self._running)
        for process in running:
            end_group(process)


def run_batch(
    manifest: Manifest,
    *,
    workers: int = 1,
    cache: Cache | None = None,
    timeout: float | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[JobResult]:
    """Runs the manifest's jobs, `workers` at a time, and returns their results in the manifest's order.

    A validation waits for the conversion that writes its folder. `timeout` (seconds) is for jobs without their own.
    Jobs that `cache` knows as passed are not run. KeyboardInterrupt ends the running jobs and is raised again.
    """
    results: dict[str, JobResult] = {}
    waiting = list(manifest.jobs)
    running: dict[Future[tuple[JobResult, str]], Job] = {}
    processes = Processes()
    pool = ThreadPoolExecutor(max_workers=workers)
    try:
        while waiting or running:
            for job in [job for job in waiting if not _blocked(job, waiting, running.values())]:
                waiting.remove(job)
                future = pool.submit(_run, job, cache, job.timeout or timeout, processes)
                running[future] = job
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                job = running.pop(future)
                result, key = future.result()
                results[job.name] = result
                if cache is not None and result.state != "cached":
                    cache.remember(job, key, passed=result.state == "passed")
                if progress is not None:
                    progress(f"{job.name}: {result.state}", len(results), len(manifest.jobs))
    except BaseException:
        processes.stop()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return [results[job.name] for job in manifest.jobs]


def _blocked(job: Job, waiting: list[Job], running: Any) -> bool:
    """A validation of a folder that a conversion has yet to write."""
    if job.command != "validate":
        return False
    return any(
        other.command == "convert" and other.out == job.out for other in [*waiting, *running]
    )


def _run(
    job: Job, cache: Cache | None, timeout: float | None, processes: Processes
) -> tuple[JobResult, str]:
    """The job's result, and its key from before it ran."""
    key = job_key(job)
    if cache is not None and cache.is_current(job, key):
        return JobResult(job, "cached", None, 0.0), key
    if cache is not None and job.command == "convert" and cache.wrote(job):
        job = replace(job, options={**job.options, "overwrite": True})
    return run_job(job, timeout, processes), key


def run_job(job: Job, timeout: float | None, processes: Processes | None = None) -> JobResult:
    """Runs one job in a process group of its own, and ends the whole group at the time limit."""
    processes = processes or Processes()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="porter-batch-") as folder:
        answer = Path(folder) / "result.json"
        log = Path(folder) / "stderr"
        words = [sys.executable, "-m", "porter", *job.arguments(), "--json", str(answer)]
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
            with processes.tracked(process):
                try:
                    code = process.wait(timeout)
                except subprocess.TimeoutExpired:
                    end_group(process)
                    message = f"took longer than {timeout:g} s and was ended; raise its timeout."
                    return JobResult(job, "timeout", None, time.monotonic() - started, message)
        seconds = time.monotonic() - started
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:])
        output = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else None
    if code == 0:
        return JobResult(job, "passed", code, seconds, "", output)
    if code < 0:
        reason = f"ended by signal {signal.Signals(-code).name}"
        return JobResult(job, "crashed", code, seconds, f"{reason}\n{tail}".strip(), output)
    error = (output or {}).get("error")
    return JobResult(job, "failed", code, seconds, error["message"] if error else tail, output)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all it started: TERM, and KILL after a grace period."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            continue
