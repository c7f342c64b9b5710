"""Emitted source as the checks see it: classes, their layers, and what each name in a method stands for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(slots=True)
class Flow:
    """What the names of one function stand for, statement by statement.

    A name that a loop, a branch or a tuple assigns stands for itself: nothing is known of it.
    """

    function: Function
    definitions: dict[int, ast.expr] = field(default_factory=dict)  # id of a read name -> its value
    reads: dict[int, int] = field(default_factory=dict)  # id of a value -> how often it is read

    @classmethod
    def of(cls, function: Function) -> Flow:
        flow = cls(function)
        flow._block(function.body, {})
        return flow

    def resolve(self, node: ast.expr | None) -> ast.expr | None:
        """The expression behind names."""
        while isinstance(node, ast.Name) and id(node) in self.definitions:
            node = self.definitions[id(node)]
        return node

    def read_once(self, node: ast.expr) -> bool:
        """Whether nothing but one place reads the value."""
        return self.reads.get(id(node), 1) <= 1

    def _block(self, body: list[ast.stmt], known: dict[str, ast.expr]) -> None:
        for statement in body:
            self._statement(statement, known)

    def _statement(self, statement: ast.stmt, known: dict[str, ast.expr]) -> None:
        if isinstance(statement, Function | ast.ClassDef):
            return
        inner = [
            part
            for name in ("body", "orelse", "finalbody", "handlers")
            for part in getattr(statement, name, [])
        ]
        changed = {name for part in inner for name in _assigned(part)}
        if isinstance(statement, (ast.For, ast.While)):
            changed |= _assigned(statement)
            for name in changed:
                known.pop(name, None)
        for child in ast.iter_child_nodes(statement):
            if isinstance(child, ast.expr):
                self._read(child, known)
        for name in ("body", "orelse", "finalbody"):
            branch = getattr(statement, name, None)
            if branch:
                self._block(branch, dict(known))
        for name in changed:
            known.pop(name, None)
        if (
            isinstance(statement, ast.Assign)
            and len(statement.targets) == 1
            and isinstance(statement.targets[0], ast.Name)
        ):
            known[statement.targets[0].id] = statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            if isinstance(statement.target, ast.Name):
                known[statement.target.id] = statement.value
        elif not inner:
            for name in _assigned(statement):
                known.pop(name, None)

    def _read(self, expression: ast.expr, known: dict[str, ast.expr]) -> None:
        for node in ast.walk(expression):
            if (
                isinstance(node, ast.Name)
                and isinstance(node.ctx, ast.Load)
                and node.id in known
                and known[node.id] is not node
            ):
                value = known[node.id]
                self.definitions[id(node)] = value
                self.reads[id(value)] = self.reads.get(id(value), 0) + 1


def _assigned(statement: ast.AST) -> set[str]:
    return {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


class ModuleClass:
    """A class of the file that is an nn.Module: its methods and what its constructor assigns."""

    def __init__(self, node: ast.ClassDef):
        self.node = node
        self.name = node.name
        self.methods = {item.name: item for item in node.body if isinstance(item, Function)}

    @cached_property
    def flows(self) -> dict[str, Flow]:
        return {name: Flow.of(method) for name, method in self.methods.items()}

    @cached_property
    def forwards(self) -> list[Flow]:
        """Every method but the constructor."""
        return [flow for name, flow in self.flows.items() if name != "__init__"]

    @cached_property
    def assigned(self) -> dict[str, ast.expr]:
        """self.NAME = value, as the constructor has it; the last one counts."""
        init = self.methods.get("__init__")
        found: dict[str, ast.expr] = {}
        for node in ast.walk(init) if init else ():
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    name = attribute_of_self(target)
                    if name:
                        found[name] = node.value
        return found

    def layer(self, node: ast.expr | None) -> str:
        """`nn.Conv2d` where the expression is a call of a layer that the constructor keeps under that name; else ''."""
        if not isinstance(node, ast.Call):
            return ""
        name = attribute_of_self(node.func)
        value = self.assigned.get(name or "")
        return dotted(value.func) if isinstance(value, ast.Call) else ""


class Reading:
    """A parsed file."""

    def __init__(self, source: str):
        self.source = source
        self.lines = source.splitlines()
        self.tree = ast.parse(source)

    @cached_property
    def classes(self) -> list[ModuleClass]:
        return [
            ModuleClass(node)
            for node in self.tree.body
            if isinstance(node, ast.ClassDef) and _is_module(node)
        ]

    @cached_property
    def root(self) -> ModuleClass | None:
        """The class that the others make up: Model, or the last one of the file."""
        named = [cls for cls in self.classes if cls.name == "Model"]
        candidates = named or self.classes
        return candidates[-1] if candidates else None

    @cached_property
    def functions(self) -> list[Function]:
        """Functions outside classes."""
        return [node for node in self.tree.body if isinstance(node, Function)]

    @cached_property
    def forwards(self) -> list[tuple[ModuleClass | None, Flow]]:
        """Everything that runs in a forward: methods but constructors, and functions of the file."""
        inside = [(cls, flow) for cls in self.classes for flow in cls.forwards]
        return [*inside, *((None, Flow.of(function)) for function in self.functions)]


def _is_module(node: ast.ClassDef) -> bool:
    return any(dotted(base).rpartition(".")[2] == "Module" for base in node.bases) or any(
        isinstance(item, Function) and item.name == "__call__" for item in node.body
    )


def dotted(node: ast.AST | None) -> str:
    """`mx.fast.rope` of the expression that says so; '' of any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def attribute_of_self(node: ast.AST) -> str | None:
    """NAME of `self.NAME`."""
    if (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    ):
        return node.attr
    return None


def is_call(node: ast.AST | None, *names: str) -> bool:
    """Whether the expression calls `mx.NAME`, or the method NAME."""
    if not isinstance(node, ast.Call):
        return False
    function = node.func
    return isinstance(function, ast.Attribute) and function.attr in names


def operand(node: ast.Call, module: tuple[str, ...] = ("mx", "nn")) -> ast.expr | None:
    """The array that a method or a function of mlx works on first."""
    function = node.func
    if isinstance(function, ast.Attribute) and dotted(function.value).split(".")[0] not in module:
        return function.value
    return node.args[0] if node.args else None


def is_number(node: ast.AST | None, value: float | None = None) -> bool:
    """Whether the expression is a number (that number, up to rounding)."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return value is None and is_number(node.operand)
    if not isinstance(node, ast.Constant) or not isinstance(node.value, (int, float)):
        return False
    if isinstance(node.value, bool):
        return False
    return value is None or abs(node.value - value) <= 1e-5 * abs(value)


def commuted(node: ast.AST | None, op: type[ast.operator]) -> Iterator[tuple[ast.expr, ast.expr]]:
    """The operands of a commutative operator in both orders."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, op):
        yield node.left, node.right
        yield node.right, node.left


def same(a: ast.AST | None, b: ast.AST | None) -> bool:
    """Whether two expressions read alike."""
    return a is not None and b is not None and ast.dump(a) == ast.dump(b)
