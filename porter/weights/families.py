"""Finds the checkpoint's name for each name that a module uses: prefixes and the rules in mappings/, no model names."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel the folder lies in the package, in a checkout beside it.
FOLDERS = (PACKAGE / "mappings", PACKAGE.parent / "mappings")
RULES_FILE = "legacy-names.toml"


@dataclass(frozen=True, slots=True)
class Rule:
    """A key that `match` matches as a whole is also known as `to` (with its groups)."""

    match: re.Pattern[str]
    to: str


@cache
def rules() -> tuple[Rule, ...]:
    """The rename rules of mappings/legacy-names.toml, in their order."""
    path = next(folder / RULES_FILE for folder in FOLDERS if (folder / RULES_FILE).is_file())
    content = tomllib.loads(path.read_text("utf-8"))
    return tuple(Rule(re.compile(rule["match"]), rule["to"]) for rule in content["rename"])


def rename(keys: Iterable[str], wanted: Iterable[str]) -> dict[str, str]:
    """wanted name -> checkpoint key, for each wanted name that the checkpoint holds under some name.

    Tried in this order: the name itself, the name by the rename rules, and either of these with one prefix put before
    all wanted names or taken from them ("bert.", "model.", "backbone."): the prefix that serves most. No checkpoint key
    is given to two names, and a key that is a wanted name itself is never given to another.
    """
    keys, wanted = list(keys), list(wanted)
    found = {name: name for name in set(wanted) & set(keys)}
    known = _by_rules([key for key in keys if key not in found])
    _add(found, {name: known[name] for name in wanted if name in known})
    left = [name for name in wanted if name not in found]
    free = {name: key for name, key in known.items() if key not in set(found.values())}
    put, taken = _best_prefix(left, free), _best_prefix(free, left)
    added = {name: free[put + name] for name in left if put + name in free}
    removed = {
        name: free[name.removeprefix(taken)]
        for name in left
        if name.startswith(taken) and name.removeprefix(taken) in free
    }
    _add(found, added if len(added) >= len(removed) else removed)
    return {name: found[name] for name in wanted if name in found}


def _by_rules(keys: list[str]) -> dict[str, str]:
    """Every key by its own name, and by the name that the rules give it; a name for two keys is nobody's."""
    known = {key: key for key in keys}
    renamed: dict[str, str | None] = {}
    for key in keys:
        name = key
        for rule in rules():
            name = rule.match.sub(rule.to, name) if rule.match.fullmatch(name) else name
        if name not in known:
            renamed[name] = None if name in renamed else key
    return {**{name: key for name, key in renamed.items() if key is not None}, **known}


def _best_prefix(short: Collection[str], long: Collection[str]) -> str:
    """The prefix, ending in a dot, that turns most of `short` into names in `long`; "" when there is none, or two."""
    wanted = set(short)
    counts: Counter[str] = Counter()
    for name in long:
        parts = name.split(".")
        for cut in range(1, len(parts)):
            if ".".join(parts[cut:]) in wanted:
                counts[".".join(parts[:cut]) + "."] += 1
    best = counts.most_common(2)
    tied = len(best) == 2 and best[0][1] == best[1][1]
    return best[0][0] if best and not tied else ""


def _add(found: dict[str, str], more: dict[str, str]) -> None:
    """Adds what is new on both sides."""
    given = set(found.values())
    for name, key in more.items():
        if name not in found and key not in given:
            found[name] = key
            given.add(key)
