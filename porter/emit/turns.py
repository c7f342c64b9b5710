"""Python for what changes from turn to turn of a list: texts over the index `i`."""

from __future__ import annotations

import ast
from itertools import groupby
from typing import Any


def term(text: str) -> str:
    """The expression as the left side of a product: in parentheses where it is a sum or a choice."""
    return text if _is_made_of(text, (ast.Mult, ast.FloorDiv, ast.Pow)) else f"({text})"


def factor(text: str) -> str:
    """The expression as the right side of a product: in parentheses where it is a quotient, too."""
    return text if _is_made_of(text, (ast.Mult, ast.Pow)) else f"({text})"


def _is_made_of(text: str, operators: tuple[type[ast.operator], ...]) -> bool:
    """Whether an expression has one of these operators outermost, or none."""
    body = ast.parse(text, mode="eval").body
    if isinstance(body, ast.BinOp):
        return isinstance(body.op, operators)
    return not isinstance(body, (ast.UnaryOp, ast.IfExp, ast.BoolOp, ast.Compare))


def first_apart(first: str, rest: str) -> str:
    """Python for what differs in the first of a list."""
    flags = {("False", "True"): "i > 0", ("True", "False"): "i == 0"}
    return flags.get((first, rest), f"{first} if i == 0 else {rest}")


def growth(rows: dict[int, list[Any]]) -> str | None:
    """`* 2` where each number of every row is twice the one before it, `// 2` where it is half of it."""
    whole = all(type(v) is int and v > 0 for row in rows.values() for v in row)
    for factor in (2, 3, 4) if whole and all(len(row) > 2 for row in rows.values()) else ():
        powers = [factor**k for k in range(max(map(len, rows.values())))]
        if all(v == row[0] * powers[k] for row in rows.values() for k, v in enumerate(row)):
            return f"* {factor}"
        if all(v == row[0] // powers[k] for row in rows.values() for k, v in enumerate(row)):
            return f"// {factor}"
    return None


def alternating(even: str, odd: str) -> str:
    """Python for what takes turns along a list."""
    if even == "False":
        return "i % 2 == 1" if odd == "True" else f"i % 2 == 1 and {odd}"
    return "i % 2 == 0" if (even, odd) == ("True", "False") else f"{even} if i % 2 == 0 else {odd}"


def by_turns(texts: list[str]) -> str | None:
    """One call for calls that take turns, as `Block(dim, 0 if i % 2 == 0 else 4)`; None where these are not such."""
    if len(texts) < 4 or len({*texts[::2]}) > 1 or len({*texts[1::2]}) > 1:
        return None
    even, odd = (ast.parse(text, mode="eval").body for text in texts[:2])
    if not isinstance(even, ast.Call) or not isinstance(odd, ast.Call):
        return None
    names = {node.id for node in ast.walk(even) if isinstance(node, ast.Name)}
    same = ast.dump(even.func) == ast.dump(odd.func)
    if "i" in names or not same or len(even.args) != len(odd.args):
        return None
    if [k.arg for k in even.keywords] != [k.arg for k in odd.keywords]:
        return None
    parts = [*even.args, *(k.value for k in even.keywords)]
    others = [*odd.args, *(k.value for k in odd.keywords)]
    result = texts[0]
    for a, b in reversed([*zip(parts, others, strict=True)]):
        one, other = (ast.get_source_segment(t, p) for t, p in zip(texts, (a, b), strict=False))
        if one != other:
            start = len(texts[0].encode()[: a.col_offset].decode())
            result = f"{result[:start]}{alternating(str(one), str(other))}{result[start + len(str(one)) :]}"
    return None if "\n" in texts[0] or result == texts[0] else result


def _cycle(texts: list[str]) -> int:
    """After how many calls they come again, twice or more often; 0 where they don't."""
    lengths = range(1, len(texts) // 2 + 1)
    return next(
        (n for n in lengths if all(a == b for a, b in zip(texts, texts[n:], strict=False))), 0
    )


def runs(texts: list[str], total: str | None = None) -> list[str]:
    """Equal constructor calls in a row as a comprehension; `total` names how many there are altogether."""
    if (call := by_turns(texts)) is not None:
        return [f"*({call} for i in range({total or len(texts)}))"]
    if (cycle := _cycle(texts)) > 1:
        rest = len(texts) % cycle
        count = f"{total} // {cycle}" if total and not rest else len(texts) // cycle
        members = ", ".join(texts[:cycle])
        return [
            f"*(layer for _ in range({count}) for layer in ({members}))",
            *texts[len(texts) - rest :],
        ]
    counted = [(text, len(list(group))) for text, group in groupby(texts)]
    longest = max((count for _, count in counted), default=0)
    flexible = [k for k, (_, count) in enumerate(counted) if count == longest]
    if len(counted) == 2 == len(texts):
        flexible = [1]  # a first member of its own, and one of those that follow it
    result: list[str] = []
    for k, (text, count) in enumerate(counted):
        others = len(texts) - count
        if total is not None and len(texts) > 1 and flexible == [k]:
            before = sum(c for _, c in counted[:k])
            ends = f"{before}, {total}" if before == others and before else f"{total} - {others}"
            result.append(f"*({text} for _ in range({ends if others else total}))")
        elif count > 2 or (count == 2 and len(text) > 30):
            result.append(f"*({text} for _ in range({count}))")
        else:
            result += [text] * count
    return result
