"""The author's source: which statement stands on a line, and what it assigns."""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache


@lru_cache(maxsize=256)
def _statements(file: str) -> dict[int, ast.stmt]:
    """The simple statement over each line of a file; none of several on one line, which a line can't tell apart."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return {}
    table: dict[int, list[ast.stmt]] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr)):
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                table.setdefault(line, []).append(node)
    return {line: nodes[0] for line, nodes in table.items() if len(nodes) == 1}


def statement_at(file: str, line: int) -> ast.stmt | None:
    """The simple statement over a line of a source file."""
    return _statements(file).get(line)


@lru_cache(maxsize=256)
def functions(file: str) -> list[ast.FunctionDef]:
    """The functions of a file, inner ones after those around them."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return []
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return sorted(found, key=lambda node: node.lineno)


def local_values(file: str, line: int) -> dict[str, ast.expr]:
    """The locals that the function over a source line has set by then, each by a statement of its own."""
    around = [f for f in functions(file) if f.lineno <= line <= (f.end_lineno or f.lineno)]
    values: dict[str, ast.expr] = {}
    for node in ast.walk(around[-1]) if around else ():
        if isinstance(node, ast.Assign) and node.lineno < line and len(node.targets) == 1:
            target, value = node.targets[0], node.value
            if isinstance(target, ast.Name):
                values[target.id] = value
            elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = zip(target.elts, value.elts, strict=False)
                values |= {t.id: v for t, v in pairs if isinstance(t, ast.Name)}
    return values


#: What makes a tensor of numbers that stand in the source.
_MAKERS = {"tensor", "as_tensor", "Tensor", "FloatTensor", "LongTensor", "from_numpy"}


def made_by(file: str, line: int) -> str | None:
    """The local that the statement over a source line makes a constant tensor for: `mean` of `mean = torch.tensor([0.5])`."""
    statement, names = statement_at(file, line), assigned_names(file, line)
    if statement is None or len(names) != 1 or names[0] == "_":
        return None
    calls = [node.func for node in ast.walk(statement) if isinstance(node, ast.Call)]
    made = [c.attr if isinstance(c, ast.Attribute) else getattr(c, "id", None) for c in calls]
    return names[0] if any(name in _MAKERS for name in made) else None


def assigned_names(file: str, line: int) -> tuple[str, ...]:
    """The plain names that the statement over a source line assigns."""
    statement = statement_at(file, line)
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
    elif isinstance(statement, (ast.AugAssign, ast.AnnAssign)):
        target = statement.target
    else:
        return ()
    if isinstance(target, ast.Name):
        return (target.id,)
    if isinstance(target, ast.Tuple):
        return tuple(item.id if isinstance(item, ast.Name) else "_" for item in target.elts)
    return ()
