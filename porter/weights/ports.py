"""The MLX module of a port's folder before its weights are loaded: what shapes it has, what layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.nn as nn
from mlx.utils import tree_flatten

from porter import artifact, loading
from porter.errors import InputError


def build(folder: Path, config: Mapping[str, Any]) -> nn.Module:
    """The module with the dense weights that it is made with: lazy arrays, of which none is computed.

    The folder's model.py is run; without one it is mlx-lm's own. Raises InputError when config.json does not fit it.
    """
    if "model_file" not in config:
        from porter.mlx_lm_route import file_model

        return file_model.build(config)
    code = loading.import_model(folder, config.get("model_file", artifact.MODEL_FILE))
    try:
        model: nn.Module = code.Model(loading.model_args(code.ModelArgs, config))
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder} has a model.py that its config.json does not fit ({error}): convert again."
        ) from error
    return model


def shapes(folder: Path, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter, dense, by its path."""
    return {path: tuple(v.shape) for path, v in tree_flatten(build(folder, config).parameters())}
