"""Names from checkpoints and sources made fit for Python source. They are data: nothing else of them gets there."""

from __future__ import annotations

import builtins
import functools
import keyword
import re
from itertools import product
from string import ascii_lowercase

#: What mlx.nn.Module (a dict) has already: an attribute of that name would be hidden by the method, or hide it.
_TAKEN = set(
    "apply apply_to_modules children eval filter_and_map freeze is_module leaf_modules load_weights modules named_modules "
    "parameters save_weights set_dtype state train trainable_parameter_filter trainable_parameters training unfreeze update "
    "update_modules valid_child_filter valid_parameter_filter clear copy fromkeys get items keys pop popitem setdefault values "
    "self mx nn args".split()
).union(keyword.kwlist)


def identifier(name: str, fallback: str = "x") -> str:
    """A Python identifier close to `name`, free of keywords and of what nn.Module has."""
    name = re.sub(r"[^0-9a-zA-Z_]", "_", name).strip("_") or fallback
    if name[0].isdigit():
        name = f"{fallback}_{name}"
    return f"{name}_" if name in _TAKEN else name


def argument_name(name: str) -> str:
    """A constructor's argument: the variables of the comprehensions that it writes are taken."""
    name = identifier(name)
    return f"{name}_" if name in ("i", "kind") else name


def class_name(name: str) -> str:
    """A class name close to a source class's."""
    name = identifier(name, "Block").lstrip("_")
    name = name[0].upper() + name[1:] if name else "Block"
    return f"{name}_" if keyword.iskeyword(name) else name


def unique(name: str, taken: set[str]) -> str:
    """The name, or a word of the same kind that is not taken yet; it is taken then."""
    candidate, serial = name, 2
    while candidate in taken:
        candidate = f"{name}{chr(63 + serial)}" if serial < 28 else f"{name}{serial}"
        serial += 1
    taken.add(candidate)
    return candidate


def variable(hint: str | None, taken: set[str], spare: tuple[str, ...]) -> str:
    """A local's name: the author's where it is free, else the first spare word that is."""
    choices = [hint] if hint and _is_plain(hint) else []
    for name in [*choices, *spare]:
        if name not in taken:
            return name
    base = choices[0] if choices else spare[0]
    # more letters where one is not enough: a box for each of many classes, say
    endings = (
        "".join(letters)
        for count in (1, 2, 3)
        for letters in product(ascii_lowercase, repeat=count)
    )
    return next(name for ending in endings if (name := f"{base}_{ending}") not in taken)


def _is_plain(name: str) -> bool:
    """Whether a source's variable name may be used as it is; a trace's `add_3` may not."""
    return (
        name.isidentifier()
        and name.isascii()
        and name not in _TAKEN
        and not hasattr(builtins, name)
        and not re.search(r"_\d+$", name)
        and name != "_"
    )


@functools.cache
def words(name: str) -> frozenset[str]:
    """The words of a name, short forms spelled out, to tell which names speak of the same."""
    known = {
        "chs": "channels", "chans": "channels", "planes": "channels", "dims": "dim", "features": "dim", "size": "size",
        "inplanes": "in", "depth": "layers", "n": "num", "embed": "hidden", "embd": "hidden", "head": "heads", "input": "in",
        "output": "out", "classes": "classes", "vocabulary": "vocab", "embeddings": "vocab", "drop": "dropout",
    }  # fmt: skip
    parts = re.findall(r"[a-z]+|[A-Z][a-z]*|\d+", name)
    return frozenset(known.get(part.lower(), part.lower()) for part in parts)
