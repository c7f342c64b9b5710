"""Expressions that a constructor writes again and again get a name."""

from __future__ import annotations

import re

_COMPOSITE = re.compile(
    r"(?<!\* )(?<!/ )args\.\w+ \* args\.\w+(?![\w.\[]| [*/])|int\([\w.]+ \* [\w.]+\)"
    r"|(?<![\w.])\d+ \* [\w.]+(?![\w.\[])|[\w.]+ // [\w.]+(?![\w.\[])"
)


def name_repeated(lines: list[str]) -> list[str]:
    """An expression over the arguments that a constructor needs at least three times (twice, if long) gets a name."""
    result = list(lines)
    for text in dict.fromkeys(found for line in lines for found in _COMPOSITE.findall(line)):
        alone = _standing_alone(text)
        count = sum(len(alone.findall(line)) for line in result)
        if count < 2 or (count < 3 and len(text) < 24) or "for " in text:
            continue
        name = (
            "hidden_dim"
            if "ratio" in text
            else "inner_dim"
            if " * args." in text and "args." in text.partition(" * ")[0]
            else "out_dim"
            if " * " in text
            else "head_dim"
            if "heads" in text
            else "size"
        )
        if any(re.search(rf"\b{name}\b", line) for line in result):
            continue
        named = [alone.sub(name, line) for line in result]
        if named == result:
            continue  # a part of another expression, which has a name by now
        result = [re.sub(rf"(?<!\w)\({name}\)", name, line) for line in named]
        result.insert(0, f"{name} = {text}")
    return result


def _standing_alone(text: str) -> re.Pattern[str]:
    """The expression where no operator beside it takes a part of it: `2 * a` is no part of `2 * a ** 2` or of `b // 2 * a`."""
    before = r"(?<![\w.])(?<!\*\*)(?<!\*\* )(?<!/ )(?<!% )" + r"(?<!\* )(?<!-)" * ("//" in text)
    return re.compile(rf"{before}{re.escape(text)}(?![\w.\[]|\s*\*\*)")
