"""S10: equal blocks share a class and a list."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import groupby

from porter.style.finding import Finding
from porter.style.reading import ModuleClass, Reading

_NUMBERED = re.compile(r"^(.*?)_?(\d+)$")


def check_structure(reading: Reading) -> Iterator[Finding]:
    """S10: no two classes alike, no numbered attributes where a list would do."""
    seen: dict[str, str] = {}
    for cls in reading.classes:
        key = _shape(cls)
        if key in seen:
            yield Finding("S10", cls.node.lineno, f"{cls.name} is {seen[key]} again")
        seen.setdefault(key, cls.name)
    for cls in reading.classes:
        for stem, lines in _runs(cls):
            if len(lines) > 3:
                yield Finding(
                    "S10", lines[0], f"{cls.name} has {len(lines)} equal layers {stem}N, not a list"
                )


def _runs(cls: ModuleClass) -> Iterator[tuple[str, list[int]]]:
    """Equal layers under numbered names, one after the other: a norm for each part of a block is no list."""
    numbered = [
        (match[1] if (match := _NUMBERED.match(name)) else "", ast.dump(value), value.lineno)
        for name, value in cls.assigned.items()
        if isinstance(value, ast.Call)
    ]
    for (stem, _), run in groupby(numbered, key=lambda item: item[:2]):
        if stem:
            yield stem, [line for *_, line in run]


def _shape(cls: ModuleClass) -> str:
    """The class's source up to its name and its numbers."""
    text = ast.dump(ast.Module([item for item in cls.node.body if not _is_docstring(item)], []))
    return re.sub(r"Constant\(value=-?[\d.e-]+\)", "Constant(number)", text)


def _is_docstring(item: ast.stmt) -> bool:
    return isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)
