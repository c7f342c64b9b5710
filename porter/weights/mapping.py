"""mapping.toml: the recipe of every tensor of a port, so that another checkpoint of the model can be ported by it.

schema = 1
source = "timm:resnet18"
[config]             the fields of ModelArgs, as they are; what TOML lacks (null) stands in [config_json] as JSON
[tensors]            MLX parameter path = recipe over checkpoint tensors
[ignored]            checkpoint key = why no recipe reads it
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from porter.errors import InputError
from porter.weights.recipes import Recipe, parse
from porter.weights.toml_text import toml

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Mapping:
    """How a checkpoint's tensors become a model's; `ignored` gives each key that is not used with the reason."""

    source: str
    tensors: MappingType[str, Recipe]
    config: MappingType[str, Any] = field(default_factory=dict)
    ignored: MappingType[str, str] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Writes the file; OSError when the disk fails."""
        plain = {key: item for key, item in self.config.items() if not _has_null(item)}
        nulls = {k: json.dumps(item) for k, item in self.config.items() if k not in plain}
        tables: dict[str, object] = {"schema": SCHEMA, "source": self.source, "config": plain}
        if nulls:
            tables["config_json"] = nulls
        tables["tensors"] = {name: str(recipe) for name, recipe in self.tensors.items()}
        tables["ignored"] = dict(self.ignored)
        Path(path).write_text(toml(tables), "utf-8", newline="\n")

    @classmethod
    def load(cls, path: str | Path) -> Mapping:
        """Reads the file; InputError when it is missing or not a mapping."""
        content = _read(Path(path))
        try:
            nulls = {k: json.loads(text) for k, text in content.get("config_json", {}).items()}
        except (ValueError, TypeError) as error:
            raise _wrong(Path(path), f"[config_json] is not JSON ({error})") from None
        return cls(
            content["source"],
            {name: parse(text) for name, text in content["tensors"].items()},
            {**content.get("config", {}), **nulls},
            content.get("ignored", {}),
        )


def _read(path: Path) -> dict[str, Any]:
    """The document, its tables checked to be of the right kind."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path.") from error
    except (ValueError, RecursionError) as error:
        raise _wrong(path, str(error)) from None
    if content.get("schema") != SCHEMA:
        raise _wrong(path, f"its schema is {content.get('schema')!r}, this porter reads {SCHEMA}")
    if not isinstance(content.get("source"), str):
        raise _wrong(path, "it does not name its source")
    for name in ("tensors", "config", "config_json", "ignored"):
        table = content.get(name, None if name == "tensors" else {})
        if not isinstance(table, dict):
            raise _wrong(path, f"it has no table [{name}]")
        if name not in ("config", "config_json") and not all(
            isinstance(v, str) for v in table.values()
        ):
            raise _wrong(path, f"an entry of [{name}] is not text")
    return content


def _wrong(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path} is not a mapping.toml of porter: {reason}; correct it or make it anew."
    )


def _has_null(item: object) -> bool:
    if isinstance(item, (list, tuple)):
        return any(map(_has_null, item))
    if isinstance(item, dict):
        return any(map(_has_null, item.values()))
    return item is None
