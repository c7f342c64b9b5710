"""Parentheses: expression trees printed and read back give the same value."""

from __future__ import annotations

import ast
from typing import Any

import mlx.core as mx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from porter.emit.literals import Code, literal
from porter.emit.syntax import (
    PRECEDENCE,
    Text,
    arithmetic,
    call,
    infix,
    method,
    plain,
    prefix,
    sequence,
    slice_text,
    subscript,
)

NAMES = ("a", "b", "c")
BINARY = sorted(set(PRECEDENCE) - {"if", "neg", "~"})


class Sym:
    """An operand that records the tree of what is done to it."""

    def __init__(self, tree: Any):
        self.tree = tree

    def __getattr__(self, name: str) -> Any:
        return lambda *args: Sym((f".{name}", self.tree, *map(tree_of, args)))

    def __getitem__(self, key: Any) -> Sym:
        return Sym(
            ("[]", self.tree, *(map(tree_of, key) if isinstance(key, tuple) else [tree_of(key)]))
        )

    def __neg__(self) -> Sym:
        return Sym(("neg", self.tree))

    def __invert__(self) -> Sym:
        return Sym(("~", self.tree))


def tree_of(value: Any) -> Any:
    return value.tree if isinstance(value, Sym) else value


_DUNDER = {
    "+": "add", "-": "sub", "*": "mul", "/": "truediv", "//": "floordiv", "%": "mod", "@": "matmul", "**": "pow",
    "|": "or", "^": "xor", "&": "and", "==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge",
}  # fmt: skip
_MIRROR = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
for op, name in _DUNDER.items():
    setattr(Sym, f"__{name}__", lambda self, other, op=op: Sym((op, self.tree, tree_of(other))))
    if op not in _MIRROR and op not in ("==", "!="):
        setattr(
            Sym, f"__r{name}__", lambda self, other, op=op: Sym((op, tree_of(other), self.tree))
        )
Sym.__hash__ = object.__hash__  # type: ignore[method-assign]


Tree = Any  # ("name", n) | ("number", v) | (op, left, right) | ("neg"|"~", x) | (".m", x, args) | ("[]", x, k) | ("f", args)

leaves = st.sampled_from([("name", n) for n in NAMES])
numbers = st.one_of(st.integers(-5, 9), st.sampled_from([0.5, -0.5, 1e-06, -1e-12, 2.0])).map(
    lambda v: ("number", v)
)


def grow(children: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(
        st.tuples(st.sampled_from(BINARY), children, children),
        st.tuples(
            st.sampled_from([op for op in BINARY if op not in ("==", "!=", *_MIRROR)]),
            numbers,
            children,
        ),
        st.tuples(st.sampled_from(BINARY), children, numbers),
        st.tuples(st.sampled_from(["neg", "~"]), children),
        st.tuples(st.just(".sum"), children),
        st.tuples(st.just(".reshape"), children, numbers, children),
        st.tuples(st.just("[]"), children, numbers),
        st.tuples(st.just("f"), children, children),
    )


trees = st.recursive(leaves, grow, max_leaves=12)


def text_of(tree: Tree) -> Text:
    kind, *rest = tree
    if kind == "name":
        return Text(rest[0], names={rest[0]})
    if kind == "number":
        return plain(rest[0])
    parts = [text_of(part) for part in rest]
    if kind in ("neg", "~"):
        return prefix(kind, parts[0])
    if kind == "[]":
        return subscript(parts[0], parts[1:])
    if kind == "f":
        return call("f", parts)
    if kind.startswith("."):
        return method(parts[0], kind[1:], parts[1:])
    return infix(kind, *parts)


def value_of(tree: Tree) -> Any:
    """The tree as Sym records it."""
    kind, *rest = tree
    if kind == "name":
        return rest[0]
    if kind == "number":
        return rest[0]
    return (kind, *map(value_of, rest))


@settings(max_examples=400)
@given(trees)
def test_printed_and_read_back(tree):
    text = text_of(tree)
    scope = {n: Sym(n) for n in NAMES} | {"f": lambda *args: Sym(("f", *map(tree_of, args)))}
    assert tree_of(eval(text.code, {"__builtins__": {}}, scope)) == value_of(tree), text.code


@settings(max_examples=200)
@given(trees)
def test_an_expression_knows_the_locals_it_reads(tree):
    text = text_of(tree)
    found = {
        node.id
        for node in ast.walk(ast.parse(text.code, mode="eval"))
        if isinstance(node, ast.Name)
    } - {"f"}
    assert text.names == found


@pytest.mark.parametrize(
    ("tree", "code"),
    [
        (("+", ("+", ("name", "a"), ("name", "b")), ("name", "c")), "a + b + c"),
        (("+", ("name", "a"), ("*", ("name", "b"), ("name", "c"))), "a + b * c"),
        (("-", ("name", "a"), ("-", ("name", "b"), ("name", "c"))), "a - (b - c)"),
        (("*", ("+", ("name", "a"), ("name", "b")), ("number", 2)), "(a + b) * 2"),
        (("**", ("neg", ("name", "a")), ("number", 2)), "(-a)**2"),
        (("[]", ("+", ("name", "a"), ("name", "b")), ("number", 0)), "(a + b)[0]"),
        ((".sum", ("neg", ("name", "a"))), "(-a).sum()"),
    ],
)
def test_no_more_parentheses_than_needed(tree, code):
    assert text_of(tree).code == code


plain_values = st.recursive(
    st.one_of(
        st.integers(), st.booleans(), st.none(), st.text(max_size=8), st.floats(allow_nan=False)
    ),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)


@given(plain_values)
def test_a_literal_is_read_back_with_its_type(value):
    found = eval(literal(value), {"__builtins__": {}, "float": float, "mx": mx})
    assert repr(found) == repr(value)


def test_literals_without_a_literal():
    assert literal(float("nan")) == 'float("nan")'
    assert literal(1e-06) == "1e-6"
    assert literal(-1e9) == "-1e9"
    assert literal(1e5) == "100000.0"
    assert literal(torch.finfo(torch.float32).min) == "mx.finfo(mx.float32).min"
    assert literal(torch.finfo(torch.float32).eps) == "mx.finfo(mx.float32).eps"
    assert literal(Code("nn.relu")) == "nn.relu"


def test_sequences_and_slices():
    one, two = Text("a", names={"a"}), Text("b", names={"b"})
    assert sequence([one], "()").code == "(a,)"
    assert sequence([one], "[]").code == "[a]"
    assert sequence([], "()").code == "()"
    assert slice_text(None, None, None).code == ":"
    assert slice_text(one, None, None).code == "a:"
    assert slice_text(None, two, one).code == ":b:a"
    assert slice_text(one, two, None).names == {"a", "b"}


@pytest.mark.parametrize(
    ("op", "number", "code"),
    [("-", -10.0, "a + 10.0"), ("+", -1e-05, "a - 1e-5"), ("*", -2.0, "a * -2.0")],
)
def test_a_negative_number_is_taken_off(op, number, code):
    assert arithmetic(op, Text("a"), plain(number)).code == code
