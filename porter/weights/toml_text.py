"""Writes TOML (tomllib only reads it): plain values, tables one level deep, any text as key or value."""

from __future__ import annotations

import math
from collections.abc import Mapping

from porter.errors import InputError

SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def toml(tables: Mapping[str, object]) -> str:
    """A TOML document: plain values first, then a [table] for each mapping. InputError for what TOML cannot hold."""
    lines = [f"{bare(k)} = {value(v)}" for k, v in tables.items() if not isinstance(v, Mapping)]
    for name, table in tables.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{bare(name)}]"]
            lines += [f"{bare(key)} = {value(item)}" for key, item in table.items()]
    return "\n".join(lines).lstrip("\n") + "\n"


def value(item: object) -> str:
    """One value in TOML's notation; tables become inline tables."""
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, int):
        return str(item)
    if isinstance(item, float):
        return "nan" if math.isnan(item) else repr(item)
    if isinstance(item, str):
        return text(item)
    if isinstance(item, (list, tuple)):
        return f"[{', '.join(map(value, item))}]"
    if isinstance(item, Mapping):
        return "{" + ", ".join(f"{bare(k)} = {value(v)}" for k, v in item.items()) + "}"
    raise InputError(f"a mapping cannot hold {item!r}: only numbers, text, lists and tables.")


def text(item: str) -> str:
    """A literal string in single quotes where that can hold `item` (recipes read better), else a basic one."""
    plain = "'" not in item and all(c == "\t" or " " <= c != "\x7f" for c in item)
    return f"'{item}'" if plain and '"' in item and _encodes(item) else basic(item)


def basic(item: str) -> str:
    """A basic string; InputError for half a surrogate pair, which no TOML file can hold."""
    if not _encodes(item):
        raise InputError(f"the name {item!r} is not valid Unicode: rename the tensor.")
    return '"' + "".join(map(_escape, item)) + '"'


def bare(name: str) -> str:
    """A key without quotes where TOML allows it."""
    allowed = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if allowed else basic(name)


def _escape(char: str) -> str:
    if char in SHORT:
        return SHORT[char]
    return f"\\u{ord(char):04x}" if char < " " or char == "\x7f" else char


def _encodes(item: str) -> bool:
    try:
        item.encode()
    except UnicodeEncodeError:
        return False
    return True
