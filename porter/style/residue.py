"""S1 to S3 and S11: other libraries, host syncs, the trace's names, and what a linter would say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator

from porter.style.finding import Finding
from porter.style.reading import Reading, dotted

LINE_LENGTH = 100  # as emitted files are formatted
_FOREIGN = {"numpy", "torch", "torchvision", "timm", "transformers", "tensorflow", "jax", "scipy"}
_SYNCS = {"item", "tolist"}
#: What torch.export and a print of its graph call things; `x1` and `w_2d` are names that people give.
_TRACED = re.compile(
    r"^(add|sub|mul|div|view|reshape|permute|transpose|getitem|cat|slice|select|unsqueeze|squeeze|expand|linear|conv[123]?d|"
    r"layer_norm|batch_norm|relu|gelu|softmax|matmul|bmm|mean|sum|clone|contiguous|tmp|temp|node)_?\d+$"
    r"|^[a-z]\w*_\d+$"
)
_HUGE = 2**31 - 1


def check_imports(reading: Reading) -> Iterator[Finding]:
    """S1: no numpy, no torch."""
    for node in ast.walk(reading.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        else:
            continue
        for name in names:
            if name.partition(".")[0] in _FOREIGN:
                yield Finding("S1", node.lineno, f"imports {name}")


def check_syncs(reading: Reading) -> Iterator[Finding]:
    """S2: no eval, item or tolist in what a forward runs."""
    for _, flow in reading.forwards:
        if flow.function.name in ("sanitize", "make_cache"):
            continue
        for node in ast.walk(flow.function):
            if not isinstance(node, ast.Call):
                continue
            name = dotted(node.func)
            method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if name in ("mx.eval", "mx.async_eval") or (method in _SYNCS and not node.args):
                yield Finding(
                    "S2", node.lineno, f"{name or method} makes the host wait for the device"
                )


def check_names(reading: Reading) -> Iterator[Finding]:
    """S3: no local that a trace numbered, no slice to the end of the integers."""
    for _, flow in reading.forwards:
        seen: set[str] = set()
        for node in ast.walk(flow.function):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                if _TRACED.match(node.id) and node.id not in seen:
                    seen.add(node.id)
                    yield Finding("S3", node.lineno, f"the local {node.id} is named by a count")
            elif (
                isinstance(node, ast.Slice)
                and isinstance(node.upper, ast.Constant)
                and isinstance(node.upper.value, int)
                and node.upper.value >= _HUGE
            ):
                yield Finding("S3", node.upper.lineno, "a slice ends at the largest integer")


def check_lint(reading: Reading) -> Iterator[Finding]:
    """S11: formatted and free of lint as ruff has it, and nothing in the file that nothing reads."""
    yield from _ruff(reading.source)
    yield from _unused(reading)


def _ruff(source: str) -> Iterator[Finding]:
    command = [sys.executable, "-m", "ruff"]
    options = ["--isolated", "--line-length", str(LINE_LENGTH), "-"]
    lint = subprocess.run(
        [*command, "check", "--select", "E9,F,I", "--output-format", "concise", *options],
        input=source, capture_output=True, text=True, check=False,
    )  # fmt: skip
    for line in lint.stdout.splitlines():
        match = re.match(r"-:(\d+):\d+: (.*)", line)
        if match:
            yield Finding("S11", int(match[1]), match[2])
    shown = subprocess.run(
        [*command, "format", "--diff", *options],
        input=source, capture_output=True, text=True, check=False,
    )  # fmt: skip
    hunk = re.search(r"^@@ -(\d+)", shown.stdout, re.M)
    if hunk:
        yield Finding("S11", int(hunk[1]), "is not as ruff formats it")


def _unused(reading: Reading) -> Iterator[Finding]:
    """Classes, functions, attributes and ModelArgs fields that nothing reads."""
    read = {
        node.attr
        for node in ast.walk(reading.tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    read |= {
        node.value
        for node in ast.walk(reading.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    names = {
        node.id
        for node in ast.walk(reading.tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    root = reading.root
    for item in reading.tree.body:
        if not isinstance(item, (ast.ClassDef, ast.FunctionDef)) or item.name in names | {"Model"}:
            continue
        if root is not None and item is not root.node and item.name not in ("ModelArgs", "Model"):
            yield Finding("S11", item.lineno, f"nothing uses {item.name}")
    for cls in reading.classes:
        for name, value in cls.assigned.items():
            if name not in read and not name.startswith("_"):
                yield Finding("S11", value.lineno, f"nothing reads {cls.name}.{name}")
    for name, line in _fields(reading):
        if name not in read | {"model_type"}:
            yield Finding("S11", line, f"nothing reads ModelArgs.{name}")


def _fields(reading: Reading) -> Iterator[tuple[str, int]]:
    """ModelArgs' fields and their lines."""
    for item in reading.tree.body:
        if isinstance(item, ast.ClassDef) and item.name == "ModelArgs":
            for entry in item.body:
                if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
                    yield entry.target.id, entry.lineno
