"""S10: equal blocks share a class and a list."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

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
        runs: dict[tuple[str, str], list[int]] = {}
        for name, value in cls.assigned.items():
            match = _NUMBERED.match(name)
            if match and isinstance(value, ast.Call):
                runs.setdefault((match[1], ast.dump(value)), []).append(value.lineno)
        for (stem, _), lines in runs.items():
            if len(lines) > 3:
                yield Finding(
                    "S10", lines[0], f"{cls.name} has {len(lines)} equal layers {stem}N, not a list"
                )


def _shape(cls: ModuleClass) -> str:
    """The class's source up to its name and its numbers."""
    text = ast.dump(ast.Module([item for item in cls.node.body if not _is_docstring(item)], []))
    return re.sub(r"Constant\(value=-?[\d.e-]+\)", "Constant(number)", text)


def _is_docstring(item: ast.stmt) -> bool:
    return isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)
