"""The command line: each command parses, calls the Python API, and prints; its module is imported when it runs."""

from __future__ import annotations

import contextlib
import importlib
import signal
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import click

from porter import __version__
from porter.cli.exits import exit_code_of

# Name and one line of help; the module of the same name in this package holds the command.
COMMANDS = {
    "convert": "Port weights and graph; prove the result.",
    "validate": "Compare a port with its source, or with a recording.",
    "record": "Run the reference here and save what it computes.",
    "inspect": "Before any work: size, route, missing ops, where it fits.",
    "batch": "Many conversions and validations from a manifest.",
    "ops": "Which ATen and ONNX ops are lowered.",
    "doctor": "What this machine has, and what to do about it.",
}


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """SIGTERM unwinds the stack, so that half-written folders go. Outside the main thread signals stay as they are."""

    def end(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class LazyGroup(click.Group):
    """Loads a command's module when the command is asked for, and maps every exception to an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"porter.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with unwinding():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except BaseException as error:  # noqa: BLE001 - the one place where every exception ends
            ctx.exit(exit_code_of(error, ctx))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, and proven; 1 the comparison failed or is incomplete; 2 wrong usage; "
    "3 an op or module that porter lacks; 4 bad input; 5 the machine failed.",
)
@click.version_option(__version__, prog_name="porter")
def main() -> None:
    """Ports PyTorch models to MLX, and proves that the port computes the same."""
