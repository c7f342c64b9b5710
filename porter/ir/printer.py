"""A program as text, for `--dump-passes` and for tests."""

from __future__ import annotations

from typing import Any

from porter.ir.program import Program, Value


def to_text(program: Program) -> str:
    """One line a node, with shapes, the module path and the author's source line beside it."""
    names: dict[Value, str] = {}

    def name(value: Value) -> str:
        if value.is_parameter:
            return f"self.{value.path}"
        return names.setdefault(value, f"v{len(names)}")

    def text(item: Any) -> str:
        if isinstance(item, Value):
            return name(item)
        if isinstance(item, (list, tuple)):
            return "[" + ", ".join(map(text, item)) + "]"
        if isinstance(item, dict):
            return "{" + ", ".join(f"{key}={text(value)}" for key, value in item.items()) + "}"
        return str(item)

    lines = [f"def {program.name}({', '.join(f'{name(v)}: {_type(v)}' for v in program.inputs)}):"]
    for node in program.nodes:
        parts = [text(item) for item in node.args]
        parts += [
            f"{key}={text(item)}"
            for group in (node.kwargs, node.attrs, node.params)
            for key, item in group.items()
        ]
        targets = ", ".join(f"{name(v)}: {_type(v)}" for v in node.outputs)
        scope = node.scope[-1].path if node.scope else ""
        where = f"{node.location.line}: {node.location.text}" if node.location else ""
        lines.append(f"    {targets} = {node.op}({', '.join(parts)})  # {scope} | {where}")
    lines.append(f"    return {', '.join(f'{key}={name(v)}' for key, v in program.outputs)}")
    return "\n".join(lines)


def _type(value: Value) -> str:
    return f"{value.dtype}[{','.join(map(str, value.shape))}]"
