"""The soft checks: how long an expert's forwards, constructors and files are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from statistics import median

from porter.style.finding import Finding
from porter.style.reading import Function, Reading, is_call

CALL_LINES, MEDIAN_CALL_LINES, INIT_LINES, FILE_LINES = 42, 12, 35, 520
ATTENTION_TRANSPOSES = 4
EXPERT_RATIO = 1.3


def check_calls(reading: Reading) -> Iterator[Finding]:
    """L1: a forward has at most 42 lines."""
    for cls in reading.classes:
        call = cls.methods.get("__call__")
        if call is not None and _length(call) > CALL_LINES:
            yield _soft(
                "L1", call, f"{cls.name}.__call__ has {_length(call)} lines, over {CALL_LINES}"
            )


def check_median_call(reading: Reading) -> Iterator[Finding]:
    """L2: half of the forwards have at most 12 lines."""
    lengths = [
        _length(cls.methods["__call__"]) for cls in reading.classes if "__call__" in cls.methods
    ]
    if lengths and median(lengths) > MEDIAN_CALL_LINES:
        yield Finding(
            "L2", 1, f"the median __call__ has {median(lengths):g} lines, over 12", hard=False
        )


def check_constructors(reading: Reading) -> Iterator[Finding]:
    """L3: a constructor has at most 35 lines."""
    for cls in reading.classes:
        init = cls.methods.get("__init__")
        if init is not None and _length(init) > INIT_LINES:
            yield _soft(
                "L3", init, f"{cls.name}.__init__ has {_length(init)} lines, over {INIT_LINES}"
            )


def check_file(reading: Reading) -> Iterator[Finding]:
    """L4: a file has at most 520 lines."""
    if len(reading.lines) > FILE_LINES:
        yield Finding(
            "L4", 1, f"the file has {len(reading.lines)} lines, over {FILE_LINES}", hard=False
        )


def check_attention_transposes(reading: Reading) -> Iterator[Finding]:
    """L5: an attention has at most 4 transposes."""
    for cls in reading.classes:
        for flow in cls.forwards:
            nodes = list(ast.walk(flow.function))
            count = sum(is_call(node, "transpose", "swapaxes", "moveaxis") for node in nodes)
            attends = any(is_call(node, "scaled_dot_product_attention") for node in nodes)
            if attends and count > ATTENTION_TRANSPOSES:
                yield _soft("L5", flow.function, f"{cls.name} has {count} transposes, over 4")


def check_expert(reading: Reading, expert: str) -> Iterator[Finding]:
    """L6: at most 1.3 times the lines of an expert's port."""
    own, theirs = _code_lines(reading.source), _code_lines(expert)
    if own > EXPERT_RATIO * theirs:
        yield Finding(
            "L6", 1, f"{own} lines of code, {own / theirs:.2f} times an expert's {theirs}", False
        )


def _code_lines(source: str) -> int:
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") for line in source.splitlines()
    )


def _length(function: Function) -> int:
    body = function.body
    first = body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and len(body) > 1:
        first = body[1]
    return (function.end_lineno or first.lineno) - first.lineno + 1


def _soft(check: str, node: ast.AST, sentence: str) -> Finding:
    return Finding(check, getattr(node, "lineno", 1), sentence, hard=False)
