"""What the author's forwards call the arrays that cross from one module into another, read off the lines that did it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, fx, nn

from porter.frontends.source_lines import assigned_names, functions, statement_at
from porter.ir import Value

if TYPE_CHECKING:
    from porter.frontends.import_graph import GraphReader

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in ')
_ORDERED = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.MatMult)

#: A module call (path, number) -> an array's name in the source graph -> its name in the module's forward.
ForwardNames = dict[tuple[str, int], dict[str, str]]
#: The same with the place of the parameter: all that the lines say.
_Given = dict[tuple[str, int], dict[str, set[tuple[int, str]]]]


class _Forward(NamedTuple):
    file: str
    function: ast.FunctionDef


class _Scope(NamedTuple):
    """A module call around a node: its key in the graph, (path, number), and the line of its forward that led there."""

    key: str
    call: tuple[str, int]
    forward: _Forward
    line: int


def forward_names(reader: GraphReader) -> ForwardNames:
    """The names of what a forward is given and of what it gets from the modules that it calls.

    As far as its lines tell them: `x + bias` and `y = self.attn(x, mask)` do, `self.attn(*inputs)` does not.
    """
    forwards = dict(_forwards(reader.source.module))
    nodes = [node for node in reader.graph.nodes if node.op == "call_function"]
    by_name = {node.name: node for node in nodes}
    scopes = {node: list(_scopes(node, reader, forwards)) for node in nodes}
    given: _Given = {}
    made: ForwardNames = {}
    for node in nodes:
        for place, argument in enumerate(node.args):
            value = reader.environment.get(argument) if isinstance(argument, fx.Node) else None
            if isinstance(value, Value) and not value.is_parameter and value.origin is not None:
                _read_given(node, place, argument, value, scopes[node], given)  # type: ignore[arg-type]
        value = reader.environment.get(node)
        maker = by_name.get(value.origin or "") if isinstance(value, Value) else None
        if maker is not None:  # the node itself, or what an idle op was given
            _read_made(node, maker, scopes, made)
    calls = {*made, *given}
    return {call: _in_order(given.get(call, {})) | made.get(call, {}) for call in calls}


def _in_order(names: dict[str, set[tuple[int, str]]]) -> dict[str, str]:
    """In the order of the signature, without names that several arrays have, and arrays that have several."""
    single = {origin: next(iter(found)) for origin, found in names.items() if len(found) == 1}
    places = [place for found in names.values() for place, _ in found]
    ordered = sorted(single.items(), key=lambda item: item[1])
    return {origin: name for origin, (place, name) in ordered if places.count(place) == 1}


def _forwards(module: nn.Module | None) -> Iterator[tuple[str, _Forward]]:
    """The forward of each module that stands in a file."""
    known: dict[type, _Forward | None] = {}
    for path, part in module.named_modules(remove_duplicate=False) if module is not None else ():
        if type(part) not in known:
            known[type(part)] = _forward(type(part))
        forward = known[type(part)]
        if forward is not None:
            yield path, forward


def _forward(kind: type[nn.Module]) -> _Forward | None:
    code = getattr(inspect.unwrap(kind.forward), "__code__", None)
    if code is None:
        return None
    for function in functions(code.co_filename):
        first = min([function.lineno, *(d.lineno for d in function.decorator_list)])
        if function.name == code.co_name and first <= code.co_firstlineno <= function.lineno:
            return _Forward(code.co_filename, function)
    return None


def _scopes(node: fx.Node, reader: GraphReader, forwards: dict[str, _Forward]) -> Iterator[_Scope]:
    """The module calls around a node, the outermost first, as far as the stack has a line of each forward."""
    lines = [(f, int(line)) for f, line in _FRAME.findall(node.meta.get("stack_trace") or "")]
    calls = {"": ("", 0)} | {frame.path: (frame.path, frame.call) for frame in reader.frames(node)}
    for key, (path, _) in (node.meta.get("nn_module_stack") or {}).items():
        path = path.partition("@")[0]
        call, forward = calls.get(reader.shared.path(path)), forwards.get(path)
        if forward is None or call is None:
            continue
        file, function = forward
        end = function.end_lineno or function.lineno
        while lines and not (lines[0][0] == file and function.lineno <= lines[0][1] <= end):
            lines.pop(0)
        if not lines:
            return
        yield _Scope(key, call, forward, lines.pop(0)[1])


def _read_given(
    node: fx.Node, place: int, argument: fx.Node, value: Value, scopes: list[_Scope], names: _Given
) -> None:  # fmt: skip
    """What the modules around a node, that its operand comes into from outside, call the operand: the innermost first.

    A forward's first array is `x` in MLX, whatever its author calls it.
    """
    around = argument.meta.get("nn_module_stack") or {}
    name: str | None = None
    below: _Scope | None = None
    for scope in reversed(scopes):
        if scope.key in around:
            return
        name = (
            _operand(scope, node, place) if below is None else name and _handed(scope, below, name)
        )
        below = scope
        if name and scope.call[0] and not name.isupper():  # sizes are in capitals
            place_there = _names(scope.forward.function).index(name)
            word = "x" if value.dtype.startswith("float") and not place_there else name
            found = names.setdefault(scope.call, {}).setdefault(value.origin or "", set())
            found.add((place_there, word))


def _read_made(
    node: fx.Node, maker: fx.Node, scopes: dict[fx.Node, list[_Scope]], names: ForwardNames
) -> None:
    """What a module calls the result of the one below it: `y` of `y = self.attn(x)`, of `y, _ = ...` and `y = ...[0]`."""
    for depth, (scope, below) in enumerate(pairwise(scopes[node])):
        inside = below.key in (maker.meta.get("nn_module_stack") or {})
        read = any(below.key not in (u.meta.get("nn_module_stack") or {}) for u in node.users)
        statement = statement_at(scope.forward.file, scope.line) if inside and read else None
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            continue
        value = statement.value
        value = value.value if isinstance(value, ast.Subscript) else value
        if not isinstance(value, ast.Call) or not _calls(value, below):
            continue
        target: ast.expr | None = statement.targets[0]
        if isinstance(target, ast.Tuple):
            target = _part(target, scopes[maker][depth + 1 :])
        if not isinstance(target, ast.Name) or target.id.isupper() or target.id == "_":
            continue
        if target.id not in _opened(scope.forward.function):
            names.setdefault(scope.call, {})[maker.name] = target.id


def _part(target: ast.Tuple, made_in: list[_Scope]) -> ast.expr | None:
    """Which of several names gets what the lines in a module make; by the only `return` of its forward, where that tells."""
    if not made_in:
        return None
    scope, below = made_in[0], next(iter(made_in[1:]), None)
    returned = [n.value for n in ast.walk(scope.forward.function) if isinstance(n, ast.Return)]
    if len(returned) != 1 or not isinstance(returned[0], ast.Tuple):
        return None
    items = returned[0].elts
    if len(items) != len(target.elts) or any(isinstance(i, ast.Starred) for i in items):
        return None
    made = assigned_names(scope.forward.file, scope.line)
    returns = isinstance(statement_at(scope.forward.file, scope.line), ast.Return)
    found = [
        name
        for name, item in zip(target.elts, items, strict=True)
        if (isinstance(item, ast.Name) and made == (item.id,))
        or (returns and below is not None and _is_call(item, below))
    ]
    return found[0] if len(found) == 1 else None


def _is_call(item: ast.expr, below: _Scope) -> bool:
    """Whether an expression is the module's call, or a method's of what that gives."""
    while isinstance(item, ast.Call) and not _calls(item, below):
        if not isinstance(item.func, ast.Attribute):
            return False
        item = item.func.value
    return isinstance(item, ast.Call)


@lru_cache(maxsize=4096)
def _opened(function: ast.FunctionDef) -> set[str]:
    """The locals that the function takes items or fields out of, which are several arrays then."""
    parts = list(ast.walk(function))
    methods = {id(part.func) for part in parts if isinstance(part, ast.Call)}
    opened = {"self"}
    for part in parts:
        if isinstance(part, ast.Subscript):
            opens = isinstance(part.slice, ast.Constant)
        elif isinstance(part, ast.Attribute):
            opens = id(part) not in methods and not hasattr(Tensor, part.attr)
        else:
            continue
        if opens and isinstance(part.value, ast.Name):
            opened.add(part.value.id)
    return opened


@lru_cache(maxsize=4096)
def _parameters(function: ast.FunctionDef, line: int) -> list[str]:
    """The function's parameters, without `self`, that still are what was given on the line."""
    changed = {
        name.id
        for name in ast.walk(function)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store) and name.lineno < line
    }
    return [name for name in _names(function) if name not in changed]


def _names(function: ast.FunctionDef) -> list[str]:
    """What a function can be given, without `self`; by keyword alone last."""
    arguments = function.args
    return [a.arg for a in [*arguments.posonlyargs, *arguments.args][1:] + arguments.kwonlyargs]


def _operand(scope: _Scope, node: fx.Node, place: int) -> str | None:
    """The parameter that stands at an operand's place: the only one on the line, or a side of the only `a + b`."""
    statement = statement_at(scope.forward.file, scope.line)
    if statement is None:
        return None
    known = _parameters(scope.forward.function, scope.line)
    parts = list(ast.walk(statement))
    used = {part.id for part in parts if isinstance(part, ast.Name) and part.id in known}
    if len(used) == 1:
        return used.pop()
    sums = [part for part in parts if isinstance(part, ast.BinOp) and isinstance(part.op, _ORDERED)]
    if len(sums) != 1 or len(node.all_input_nodes) != 2 or place > 1:
        return None
    side = (sums[0].left, sums[0].right)[place]
    return side.id if isinstance(side, ast.Name) and side.id in known else None


def _handed(scope: _Scope, below: _Scope, name: str) -> str | None:
    """The parameter that a call hands on as the parameter `name` of the module below."""
    statement = statement_at(scope.forward.file, scope.line)
    parts = list(ast.walk(statement)) if statement is not None else []
    calls = [part for part in parts if isinstance(part, ast.Call) and _calls(part, below)]
    if len(calls) != 1:
        return None
    given = {k.arg: k.value for k in calls[0].keywords}
    for parameter, value in zip(_names(below.forward.function), calls[0].args, strict=False):
        if isinstance(value, ast.Starred):
            break
        given[parameter] = value
    handed = given.get(name)
    known = _parameters(scope.forward.function, scope.line)
    return handed.id if isinstance(handed, ast.Name) and handed.id in known else None


def _calls(call: ast.Call, below: _Scope) -> bool:
    """Whether a call is of the module: `self.NAME(...)` of its own name, or of a local or an item that a loop has."""
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr == below.call[0].rpartition(".")[2]
    return isinstance(function, (ast.Name, ast.Subscript))
