"""Loading an output folder: its model.py run, its weights put in."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from porter.artifact import CONFIG_FILE, MODEL_FILE, read_facts, read_json
from porter.errors import InputError
from porter.weights.readers import open_tensors
from porter.weights.writer import listed

_LOADED = itertools.count()


def load(directory: str | Path, compiled: bool = False) -> Any:
    """The MLX module of DIR with its weights, in eval mode; with `compiled`, a Compiled around it.

    DIR's model.py is run. Raises InputError when DIR is not complete or its weights do not fit its code.
    """
    directory = Path(directory)
    config = read_json(directory / CONFIG_FILE)
    if "model_file" not in config and read_facts(directory).route == "mlx-lm":
        served = _load_with_mlx_lm(directory)
        return Compiled(served) if compiled else served
    code = import_model(directory, config.get("model_file", MODEL_FILE))
    try:
        model = code.Model(model_args(code.ModelArgs, config))
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{directory} has a model.py that its config.json does not fit: {error}."
        ) from error
    weights = weights_of(directory)
    try:
        _quantize(model, config.get("quantization"), weights)
        model.load_weights(list(weights.items()), strict=True)
    except ValueError as error:
        raise InputError(
            f"{directory} has weights that do not fit its model.py: {error}"
        ) from error
    model.eval()
    mx.eval(model.parameters())
    return Compiled(model) if compiled else model


def import_model(directory: Path, file: str = MODEL_FILE) -> ModuleType:
    """DIR/model.py as a module of its own name, so that several outputs can be loaded side by side."""
    path = directory / file
    if not isinstance(file, str) or Path(file).name != file or not path.is_file():
        raise InputError(
            f"{directory} has no model file {file!r}: give a folder that porter wrote."
        )
    return _executed(path.read_text("utf-8"), path)


def _executed(text: str, path: Path) -> ModuleType:
    module = ModuleType(f"porter_output_{next(_LOADED)}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[module.__name__]
        raise InputError(f"{path} cannot be imported ({type(error).__name__}: {error}).") from error
    return module


def instantiate(
    model_py: str, config: Mapping[str, Any], weights: Mapping[str, mx.array]
) -> nn.Module:
    """The Model of an emitted source with exactly these weights, in eval mode; nothing touches the disk."""
    code = _executed(model_py, Path(MODEL_FILE))
    model: nn.Module = code.Model(model_args(code.ModelArgs, config))
    model.load_weights(list(weights.items()), strict=True)
    return model.eval()


def model_args(cls: Callable[..., Any], config: Mapping[str, Any]) -> Any:
    """ModelArgs from config.json: its own fields only, lists made tuples where the field's default is one."""
    arguments = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.init and field.name in config:
            value = config[field.name]
            is_tuple = isinstance(_default(field), tuple) or str(field.type).startswith("tuple")
            arguments[field.name] = _tuples(value) if is_tuple else value
    return cls(**arguments)


class Compiled:
    """A module whose call is compiled; everything else is the module's own.

    The module's arrays (weights, buffers, constants) are inputs of the compiled function, not constants in it, so
    `load_weights` and `update` take effect. What Python computes from anything else is fixed when a shape is first
    seen: change such attributes and make a new Compiled.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._kinds: dict[str, type] = {}
        self._call = mx.compile(self._trace, inputs=module.state)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returns for these inputs."""
        result = self._call(*args, **kwargs)
        if isinstance(result, dict) and len(result) == 1:
            ((name, fields),) = result.items()
            return self._kinds[name](**fields) if name in self._kinds else result
        return result

    def __getattr__(self, name: str) -> Any:
        if name == "module":  # not set yet: copy and pickle ask for it
            raise AttributeError(name)
        return getattr(self.module, name)

    def _trace(self, *args: Any, **kwargs: Any) -> Any:
        """The module's call; mx.compile passes no dataclass, so one travels as {its class: its fields}."""
        result = self.module(*args, **kwargs)
        if not dataclasses.is_dataclass(result) or isinstance(result, type):
            return result
        name = f"{type(result).__module__}.{type(result).__qualname__}"
        self._kinds[name] = type(result)
        return {name: {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}}


def _quantize(model: nn.Module, how: Any, weights: Mapping[str, mx.array]) -> None:
    """Makes those layers quantized whose weights are; `how` is config.json's entry, as mlx-lm writes it."""
    if not isinstance(how, dict):
        return

    def choose(path: str, part: nn.Module) -> Any:
        return f"{path}.scales" in weights and hasattr(part, "to_quantized") and how.get(path, True)

    common = {key: how[key] for key in ("group_size", "bits", "mode") if key in how}
    nn.quantize(model, **common, class_predicate=choose)


def _load_with_mlx_lm(directory: Path) -> Any:
    """The module of an output that has no code of its own, as mlx-lm's implementation serves it."""
    from mlx_lm.utils import load_model

    try:
        model, _ = load_model(directory)
    except (ValueError, OSError) as error:
        raise InputError(f"mlx-lm cannot load {directory}: {error}") from error
    return model.eval()


def weights_of(directory: Path) -> dict[str, mx.array]:
    """Every tensor of DIR; the files are checked, then read by MLX as they are needed."""
    tensors = open_tensors(directory)
    keys = set(tensors.keys())
    for key in keys:
        tensors.spec(key)
    tensors.close()
    weights: dict[str, mx.array] = {}
    for file in sorted(directory.glob("model*.safetensors")):
        weights.update(mx.load(str(file)))  # type: ignore[arg-type]
    if keys != set(weights):
        raise InputError(
            f"{directory} has shards that its index does not name: {listed(keys ^ set(weights))}."
        )
    return weights


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
