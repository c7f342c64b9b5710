"""The line protocol between `validate` and its two processes: one JSON object a line.

A child keeps stdout for the protocol alone: what the model's author prints goes to stderr.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO

from porter import errors
from porter.errors import MachineError, PorterError

Message = dict[str, Any]
Progress = Callable[[str], None]


class Side(Protocol):
    """One of the two sides, once its data is on disk: answers commands until it is closed."""

    def ask(self, command: Message) -> Message: ...

    def close(self) -> None: ...


class Channel:
    """The child's end."""

    def __init__(self) -> None:
        self._out: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, message: Message) -> None:
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def progress(self, text: str) -> None:
        self.send({"progress": text})

    def serve(self, answer: Callable[[Message], Message]) -> None:
        """Answers commands from stdin until it ends or a command says stop."""
        for line in sys.stdin:
            command = json.loads(line)
            if command.get("do") == "stop":
                return
            self.send(answer(command))


def run_child(body: Callable[[Channel], None]) -> None:
    """Runs a child's `body`; a PorterError goes to the parent as a message, with its type."""
    channel = Channel()
    try:
        body(channel)
    except PorterError as error:
        channel.send({"error": str(error), "type": type(error).__name__})
        raise SystemExit(error.exit_code) from None


class Process:
    """The parent's end: `python -m MODULE JOB` under `environment`."""

    def __init__(
        self,
        module: str,
        job: Path,
        log: Path,
        environment: Mapping[str, str],
        progress: Progress,
    ) -> None:
        self._name, self._log, self._progress = module.rpartition(".")[2], log, progress
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env=dict(environment),
                text=True,
                encoding="utf-8",
            )

    def read(self) -> Message:
        """The next message that is not progress; raises what the child raised."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message: Message = json.loads(line)
            if "progress" in message:
                self._progress(str(message["progress"]))
            elif "error" in message:
                self.close()
                raise _error(message)
            else:
                return message
        code = self._process.wait()
        raise MachineError(
            f"The {self._name} process ended with code {code} before it was done: "
            f"{_tail(self._log)}. A negative code is a signal; -9 usually means out of memory."
        )

    def ask(self, command: Message) -> Message:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # read() reports how the process ended
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        return self.read()

    def close(self) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # the child has ended by itself
                self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _error(message: Message) -> PorterError:
    kind = getattr(errors, str(message.get("type")), None)
    if isinstance(kind, type) and issubclass(kind, PorterError):
        return kind(message["error"])
    return MachineError(message["error"])


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " | ".join(lines[-4:])[-600:] if lines else "it wrote nothing"
