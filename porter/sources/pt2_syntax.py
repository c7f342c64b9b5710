"""The strings in an exported program that torch evaluates, and what harmless ones look like."""

from __future__ import annotations

import ast
import json
import math
import re
from typing import Any

import torch

# What sympy's srepr and torch.utils._sympy.functions write.
_FUNCTIONS = frozenset(
    {
        "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Min", "Max", "Abs", "floor",
        "ceiling", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality", "Unequality", "StrictLessThan",
        "LessThan", "StrictGreaterThan", "GreaterThan", "And", "Or", "Not", "Piecewise", "ExprCondPair",
        "Mod", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv", "CeilToInt", "FloorToInt",
        "CeilDiv", "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv",
        "TruncToFloat", "TruncToInt", "RoundToInt", "RoundDecimal", "ToFloat", "Identity", "sqrt", "log",
        "exp",
    }
)  # fmt: skip
_SYMBOL = re.compile(r"[a-z]+[0-9]+|int_oo|true|false|True|False", re.ASCII)
_EXPRESSION_NODES = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.keyword, ast.Constant, ast.Name, ast.Load,
    ast.operator, ast.unaryop, ast.cmpop, ast.Tuple,
)  # fmt: skip
_NAME = re.compile(r"[\w.@$\-]*(?<!\.)", re.ASCII)
_OPERATOR = re.compile(r"torch\.ops\.(\w+)\.(\w+)(?:\.\w+)?", re.ASCII)
_DUNDER = re.compile(r"__i?(and|or|xor|lshift|rshift)__")
_ARITHMETIC = frozenset(
    {
        "add", "sub", "mul", "floordiv", "truediv", "mod", "pow", "neg", "pos", "abs", "eq", "ne", "lt",
        "le", "gt", "ge", "and_", "or_", "xor", "not_", "getitem", "lshift", "rshift", "matmul", "inv",
        "invert", "truth", "index", "is_", "is_not",
    }
)  # fmt: skip
_TREES = frozenset(
    {
        "builtins.tuple", "builtins.list", "builtins.dict", "collections.namedtuple",
        "collections.OrderedDict", "collections.deque", "torch.Size",
        "torch.fx.immutable_collections.immutable_list", "torch.fx.immutable_collections.immutable_dict",
    }
)  # fmt: skip
_POWERS = ("Pow", "PowByNatural", "FloatPow", "LShift")
_EXPONENT = re.compile(
    r"(Integer\()?-?[0-9]{1,2}\)?|Rational\(-?[0-9], [0-9]\)|Float\('-?[0-9.]{1,4}'(, .*)?\)"
)
_DEEPEST = 60


def is_size_expression(text: str) -> bool:
    """Whether `text` is arithmetic over symbols, in which sympy's eval finds nothing else to call."""
    if len(text) > 20_000:
        return False
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, _EXPRESSION_NODES):
            return False
        if isinstance(node, ast.Name) and not (
            node.id in _FUNCTIONS if id(node) in called else _SYMBOL.fullmatch(node.id)
        ):
            return False
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Name):
            return False
        if isinstance(node, ast.Constant) and not _is_plain_constant(node.value):
            return False
        if not _is_small_power(node):
            return False
    return True


def is_target(text: str) -> bool:
    """Whether `text` names an operator, and not some other thing that can be reached from torch."""
    kind, _, rest = text.partition(".")
    if kind == "_operator":
        return rest in _ARITHMETIC
    if kind == "math":
        return not rest.startswith("_") and callable(getattr(math, rest, None))
    if re.fullmatch(r"torch\._?sym_\w+", text, re.ASCII):
        return True
    match = _OPERATOR.fullmatch(text)
    if match is None:
        return False
    namespace, name = match[1], match[2]
    if namespace.startswith("__") or hasattr(type(torch.ops), namespace):
        return False
    return not name.startswith("__") or _DUNDER.fullmatch(name) is not None


def is_name(text: str) -> bool:
    """Whether `text` is a dotted name, which stays one where torch writes it into Python code."""
    return len(text) <= 1000 and _NAME.fullmatch(text) is not None


def is_tree(text: str) -> bool:
    """Whether `text` is a tree of plain containers or registered classes; contexts that import are none."""
    try:
        _, schema = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return text == ""
    return _is_tree_schema(schema, 0)


def _is_tree_schema(schema: Any, depth: int) -> bool:
    if depth > _DEEPEST or not isinstance(schema, dict):
        return False
    kind, context = schema.get("type"), schema.get("context")
    known = (
        kind is None
        or kind in _TREES
        or (isinstance(kind, str) and kind.startswith("transformers."))
    )
    text = context if isinstance(context, str) else json.dumps(context)
    if not known or "__enum__" in text or "\\u" in text:
        return False
    children = schema.get("children_spec")
    return isinstance(children, list) and all(
        _is_tree_schema(child, depth + 1) for child in children
    )


def _is_plain_constant(value: object) -> bool:
    """Whether `value` is a number of a usual size, or text that names a symbol or gives a float's digits."""
    if isinstance(value, str):
        return re.fullmatch(r"[A-Za-z0-9_.+\-]{0,60}", value, re.ASCII) is not None
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= 1 << 64)


def _is_small_power(node: ast.AST) -> bool:
    """False for a power that could take for ever: its exponent is large, or it is of another power."""
    match node:
        case ast.BinOp(left=base, op=ast.Pow(), right=exponent):
            pass
        case ast.Call(func=ast.Name(id=name), args=[base, exponent]) if name in _POWERS:
            pass
        case ast.Call(func=ast.Name(id=name)) if name in _POWERS:
            return False
        case _:
            return True
    nested = any(
        isinstance(inner, ast.Pow) or (isinstance(inner, ast.Name) and inner.id in _POWERS)
        for inner in ast.walk(base)
    )
    return not nested and _EXPONENT.fullmatch(ast.unparse(exponent)) is not None
