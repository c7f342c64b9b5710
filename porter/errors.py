"""The one exception tree: every error that a user may see, with the exit code it maps to.

Each message is a sentence that says what is wrong, where, and what to do next.
"""

from __future__ import annotations

from dataclasses import dataclass


class PorterError(Exception):
    """Base of every error that porter raises on purpose."""

    exit_code = 5


class UsageError(PorterError):
    """The command or call is wrong: an option, an input spec, a missing example input."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Gap:
    """Something the model needs and porter does not have.

    `count` is how often it occurs; `location` is the author's source line of its first use, or the module path.
    """

    name: str
    count: int
    location: str
    reason: str = ""


class UnsupportedError(PorterError):
    """The model needs something that porter does not have; `gaps` names every such thing at once."""

    exit_code = 3

    def __init__(self, message: str, gaps: tuple[Gap, ...] = ()):
        lines = [message]
        for gap in gaps:
            reason = f" ({gap.reason})" if gap.reason else ""
            lines.append(f"  {gap.name} x{gap.count} at {gap.location}{reason}")
        super().__init__("\n".join(lines))
        self.gaps = gaps
        self.is_final = False  # whether nothing else may be tried in its place


class InputError(PorterError):
    """The source is missing, damaged, hostile, or does not fit what it was used for."""

    exit_code = 4


class MachineError(PorterError):
    """The machine failed: a full disk, too little memory, a missing package."""

    exit_code = 5
