"""From an exception to an exit code and a sentence: the one place that knows the mapping."""

from __future__ import annotations

import errno
import os
import traceback
from typing import Any

import click

from porter.cli.output import write_json
from porter.errors import MachineError, PorterError, UnsupportedError, UsageError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# What validate and convert return, as an exit code; anything else is 1.
VERDICTS = {"pass": 0}

# Errors of the operating system that are the machine's and not the input's.
MACHINE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO}


def exit_code_of(error: BaseException, ctx: click.Context) -> int:
    """Report `error` on stderr (and to --json, where it was given), and return the process's exit code."""
    if ctx.meta.get("porter.debug"):
        traceback.print_exception(error)
    code, message = describe(error)
    click.echo(f"porter: {message}", err=True)
    target = ctx.meta.get("porter.json")
    if target is not None:
        try:
            write_json(target, {"error": error_object(error, code, message)})
        except OSError as failure:
            click.echo(f"porter: the error could not be written to {target}: {failure}", err=True)
    return code


def describe(error: BaseException) -> tuple[int, str]:
    """The exit code of an exception, and the sentence that the user reads."""
    match error:
        case PorterError():
            return error.exit_code, str(error)
        case KeyboardInterrupt() | click.Abort():
            return INTERRUPTED, "interrupted; nothing half-written was left behind."
        case SystemExit(code=int(code)):
            return code, "ended by a signal; nothing half-written was left behind."
        case MemoryError():
            return MachineError.exit_code, (
                "out of memory; free some, or convert on a larger machine. "
                "`porter inspect SOURCE` says how much the model needs."
            )
        case OSError(errno=number) if number in MACHINE_ERRNOS:
            where = f" at {error.filename}" if error.filename else ""
            return MachineError.exit_code, f"{error.strerror}{where}; free space and run it again."
        case OSError(filename=str() | bytes() | os.PathLike()):
            return MachineError.exit_code, (
                f"{error.filename}: {error.strerror}; check the path and its permissions."
            )
        case ModuleNotFoundError() if error.name and not error.name.startswith("porter"):
            return MachineError.exit_code, (
                f"the package {error.name} is not installed; `porter doctor` says which extra brings it."
            )
        case _:
            return MachineError.exit_code, (
                f"unexpected {type(error).__name__}: {error}. This is a defect in porter: "
                "run with --debug for the traceback, and report it."
            )


def error_object(error: BaseException, code: int, message: str) -> dict[str, Any]:
    """The "error" of a --json object."""
    gaps = error.gaps if isinstance(error, UnsupportedError) else ()
    return {
        "exit_code": code,
        "kind": type(error).__name__,
        "message": message,
        "gaps": [
            {"name": g.name, "count": g.count, "location": g.location, "reason": g.reason}
            for g in gaps
        ],
    }


def exit_code_of_verdict(verdict: str, *, proof: bool = True) -> int:
    """0 for a proven result, 1 for any other; `--no-proof` asked for an unproven one, so that is what 0 means there."""
    if not proof and verdict == "unproven":
        return 0
    return VERDICTS.get(verdict, 1)


__all__ = ["UsageError", "describe", "error_object", "exit_code_of", "exit_code_of_verdict"]
