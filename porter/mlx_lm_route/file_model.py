"""mlx-lm's own file for a config: its classes, and the model that it builds, with lazy arrays."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.nn as nn

from porter.errors import UnsupportedError


def args_of(config: Mapping[str, Any]) -> Any:
    """ModelArgs of mlx-lm's file for the config's model_type; UnsupportedError where it has none."""
    return classes(config)[1]


def classes(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """(Model, ModelArgs) of mlx-lm's file for the config's model_type."""
    from mlx_lm import utils

    kind = config.get("model_type")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            found: tuple[Any, Any] = utils._get_classes(dict(config))
    except (Exception, SystemExit) as error:
        raise UnsupportedError(f"mlx-lm has no file for the model_type {kind!r}.") from error
    return found


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of mlx-lm's file, from the config as mlx-lm reads it; its arrays are lazy."""
    from mlx_lm import utils

    cls, args = classes(config)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config), "utf-8")
        read = utils.load_config(Path(folder))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            model: nn.Module = cls(args.from_dict(read)).eval()
    except (Exception, SystemExit) as error:
        text = str(error).replace("ModelArgs.__init__()", "its ModelArgs is")
        raise UnsupportedError(
            f"it cannot be built from this config.json ({type(error).__name__}: {text})."
        ) from error
    return model
