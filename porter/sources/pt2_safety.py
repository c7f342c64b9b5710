"""Checks a .pt2 archive before torch.export reads it, which trusts what it reads.

Loading a .pt2 unpickles whatever it marks as pickled, falls back to full unpickling for example inputs that the
safe unpickler refuses, loads compiled libraries, passes size expressions to sympy's eval, imports what tree
contexts name, looks call targets up from `torch`, and turns names into Python code.  A program that
torch.export.save wrote from an ordinary model needs none of this beyond what is allowed here.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from porter.errors import InputError
from porter.sources.pt2_syntax import is_name, is_size_expression, is_target, is_tree

_REFUSED = {
    "data/aotinductor/": "compiled libraries",
    "data/weights/model.pt": "pickled weights",
    "data/constants/model.pt": "pickled constants",
}
# Strings under these keys are code or become part of it; the value says what they must look like.
_SYNTAX = {
    "expr_str": is_size_expression,
    "target": is_target,
    "as_operator": is_target,
    "in_spec": is_tree,
    "out_spec": is_tree,
    "name": is_name,
    "as_name": is_name,
    "fqn": is_name,
    "forward_arg_names": is_name,
    "class_fqn": is_name,
}
# What the author wrote, shown and never run.
_SHOWN = ("metadata", "torch_version", "verifiers")


def check_archive(path: Path) -> None:
    """Raises InputError when reading the archive at `path` could run code that it brings."""
    from torch.export.pt2_archive._package import PT2ArchiveReader

    try:
        # torch's own reader: another zip parser might see another archive.
        with PT2ArchiveReader(str(path)) as reader:
            names = reader.get_file_names()
            for name in names:
                for prefix, what in _REFUSED.items():
                    if name.startswith(prefix):
                        raise _refused(path, f"it holds {what} ({name})")
            models = [
                name for name in names if name.startswith("models/") and name.endswith(".json")
            ]
            if not models:
                raise InputError(
                    f"{path} holds no exported program; save one with torch.export.save"
                )
            for name in names:
                if name.endswith("_config.json"):
                    folder = name.rpartition("/")[0]
                    sizes = {
                        entry: reader.archive_file.get_record_size(entry)
                        for entry in names
                        if entry.startswith(folder)
                    }
                    _check_payloads(path, folder, json.loads(reader.read_string(name)), sizes)
                elif name.startswith("data/sample_inputs/"):
                    _check_inputs(path, reader.read_bytes(name))
            for name in models:
                program = json.loads(reader.read_string(name))
                for what in _suspicious(program):
                    raise _refused(path, f"{name} has {what}")
    except InputError:
        raise
    except Exception as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} is damaged, or no .pt2 file ({text}); export it again") from error


def _check_payloads(path: Path, folder: str, config: Any, sizes: dict[str, int]) -> None:
    for name, payload in config["config"].items():
        file = payload["path_name"]
        if payload["use_pickle"] or not file.startswith(("weight_", "tensor_")):
            raise _refused(path, f"{name!r} is a pickled object")
        # torch allocates the stated size for an empty record.
        stated = math.prod(size["as_int"] for size in payload["tensor_meta"]["sizes"])
        if stated and not sizes.get(f"{folder}/{file}"):
            raise InputError(f"{path} is damaged: {name!r} has no data; export it again")


def _check_inputs(path: Path, content: bytes) -> None:
    if not content:
        return
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:
        raise _refused(path, "its example inputs need full unpickling") from error


def _suspicious(value: Any, key: str = "") -> Iterator[str]:
    """What in a program's JSON could run as code, in words."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "range_constraints" and isinstance(item, dict):
                yield from (
                    f"the size {text[:60]!r}" for text in item if not is_size_expression(text)
                )
            if name not in _SHOWN:
                yield from _suspicious(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _suspicious(item, key)
    elif isinstance(value, str):
        check = _SYNTAX.get(key) or (is_name if key.endswith("_name") else None)
        if check is not None and not check(value):
            yield f"the {key} {value[:60]!r}"


def _refused(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path} may run code when it is read: {reason}; export it again from a plain model, or, when you trust "
        "where it comes from, give --trust-pickle"
    )
