"""Classes that come out alike, though what they compute was compared apart: one of them is written."""

from __future__ import annotations

import re

from porter.passes.factor.classes import BlockClass


def merged(order: list[BlockClass], chunks: list[str]) -> list[str]:
    """The classes' source, leaves first, without those that are others up to their name; these take the other's name."""
    renamed: dict[str, str] = {}
    seen: dict[str, str] = {}
    kept: list[str] = []
    for cls, chunk in zip(order, chunks, strict=True):
        for old, new in renamed.items():
            chunk = _called(old).sub(f"{new}(", chunk)
        first = seen.setdefault(_called(cls.name).sub("(", chunk), cls.name)
        if first != cls.name:
            renamed[cls.name] = first
            cls.name = first
        else:
            kept.append(chunk)
    return kept


def _called(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.]){re.escape(name)}\(")
