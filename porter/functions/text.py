"""The functions by name, and their source as an emitted file holds it."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from porter.ir import Program

#: The files of this folder that hold functions.
FILES = tuple(
    sorted({path.stem for path in Path(__file__).parent.glob("*.py")} - {"__init__", "text"})
)
#: Modules of the user's own, of whose functions a plugin's lowerings may name some.
_ADDED: dict[str, Path] = {}


def add_file(module: str, path: Path) -> None:
    """Takes up the functions of an imported module. Raises ValueError where one has the name of another function."""
    if _ADDED.get(module) == path:
        return
    _ADDED[module] = path
    _table.cache_clear()
    try:
        _table()
    except ValueError:
        del _ADDED[module]
        raise


@dataclass(frozen=True, slots=True)
class FunctionText:
    """One function: its source, the functions of its file that it calls, and the imports that it needs."""

    name: str
    source: str
    calls: tuple[str, ...]
    imports: tuple[str, ...]


def function(name: str) -> Callable[..., Any]:
    """The function itself. Raises KeyError where there is none of that name."""
    found: Callable[..., Any] = getattr(importlib.import_module(_table()[name][0]), name)
    return found


def function_names(program: Program) -> set[str]:
    """The functions that a program calls."""
    return {node.op.removeprefix("fn.") for node in program.nodes if node.op.startswith("fn.")}


def texts(names: Iterable[str]) -> list[FunctionText]:
    """The named functions and those that they call, each after what it calls."""
    ordered: dict[str, FunctionText] = {}

    def visit(name: str) -> None:
        if name in ordered:
            return
        text = _table()[name][1]
        for inner in text.calls:
            visit(inner)
        ordered[name] = text

    for name in sorted(names):
        visit(name)
    return list(ordered.values())


@cache
def _table() -> dict[str, tuple[str, FunctionText]]:
    files = {
        **{f"porter.functions.{file}": Path(__file__).with_name(f"{file}.py") for file in FILES},
        **_ADDED,
    }
    table: dict[str, tuple[str, FunctionText]] = {}
    for module, path in files.items():
        for text in _read(path.read_text("utf-8")):
            if text.name in table:
                raise ValueError(
                    f"{text.name} is in {path} and in {table[text.name][0]}; rename it."
                )
            table[text.name] = module, text
    return table


def _read(source: str) -> list[FunctionText]:
    tree = ast.parse(source)
    imports: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)) and node.col_offset == 0:
            for alias in node.names:
                what = ast.unparse(
                    ast.ImportFrom(node.module, [alias], 0)
                    if isinstance(node, ast.ImportFrom)
                    else ast.Import([alias])
                )
                imports[alias.asname or alias.name] = what
    functions = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not any(map(_is_lowering, node.decorator_list))
    ]
    known = {node.name for node in functions}
    found = []
    for node in functions:
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        lines = source.splitlines()
        start = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        found.append(
            FunctionText(
                node.name,
                "\n".join(lines[start - 1 : node.end_lineno]),
                tuple(sorted((names & known) - {node.name})),
                tuple(imports[name] for name in sorted(names & set(imports))),
            )
        )
    return found


def _is_lowering(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("lowering")
