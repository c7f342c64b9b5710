"""Progress on stderr: a live line on a terminal, plain lines elsewhere. stdout stays the result's."""

from __future__ import annotations

import re
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

QUIET_SECONDS = 5.0  # between two plain lines of the same stage
COUNTED = re.compile(
    r"\d"
)  # "reference 3/120 layers.0" is of the same stage as "reference 2/120 norm"


class Progress:
    """Call it with a stage, and with how much of how much is done where that is known: progress("weights", 3, 120)."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._kind = ""
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
        kind = COUNTED.split(stage)[0].strip()
        if self._bars is not None:
            if self._task is None or kind != self._kind:
                if self._task is not None:
                    self._bars.remove_task(self._task)
                self._task = self._bars.add_task(stage, total=total)
            self._bars.update(self._task, description=stage, completed=done or 0, total=total)
        else:
            now = time.monotonic()
            if kind != self._kind or now - self._spoke >= QUIET_SECONDS:
                count = "" if done is None or total is None else f" {done}/{total}"
                click.echo(f"[{now - self._started:7.1f} s] {stage}{count}", err=True)
                self._spoke = now
        self._kind = kind
