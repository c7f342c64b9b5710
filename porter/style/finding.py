"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One departure from how an MLX expert writes: the check's id, the line, and a sentence."""

    check: str
    line: int
    sentence: str
    hard: bool = True

    def __str__(self) -> str:
        return f"{self.line}: {self.check}{'' if self.hard else ' (soft)'}: {self.sentence}"
