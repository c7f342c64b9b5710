"""Progress on stderr: a live line on a terminal, plain lines elsewhere. stdout stays the result's."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

QUIET_SECONDS = 5.0  # between two plain lines of the same stage


class Progress:
    """Call it with a stage, and with how much of how much is done where that is known: progress("weights", 3, 120)."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._stage = ""
        self._started = self._spoke = time.monotonic()

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars

            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
            )
            self._bars = Bars(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, stage: str, done: int | None = None, total: int | None = None) -> None:
        """Say that `stage` runs; `done` of `total` of its steps are through."""
        if self._bars is not None:
            self._show(self._bars, stage, done, total)
            return
        now = time.monotonic()
        if stage == self._stage and now - self._spoke < QUIET_SECONDS:
            return
        count = "" if done is None or total is None else f" {done}/{total}"
        click.echo(f"[{now - self._started:7.1f} s] {stage}{count}", err=True)
        self._stage, self._spoke = stage, now

    def _show(self, bars: Bars, stage: str, done: int | None, total: int | None) -> None:
        if self._task is None or stage != self._stage:
            if self._task is not None:
                bars.remove_task(self._task)
            self._task, self._stage = bars.add_task(stage, total=total), stage
        bars.update(self._task, completed=done or 0, total=total)
