"""What porter's output folder DIR holds: it appears whole or not at all, and loads as an MLX module."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from porter import __version__
from porter.errors import InputError, MachineError, UsageError
from porter.weights.readers import open_tensors
from porter.weights.writer import listed

SCHEMA = 1
FACTS_FILE = "porter.json"
CONFIG_FILE = "config.json"
MODEL_FILE = "model.py"
MAPPING_FILE = "mapping.toml"
VALUE_FIELDS = ("name", "dtype", "shape", "permute")
_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_LOADED = itertools.count()


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """porter.json. `inputs` and `outputs` hold name, dtype, shape (named dims as text) and permute (or None).

    sha256 is the fingerprint of the source's weights; porter, mlx and torch are the versions that made DIR.
    """

    source: str
    sha256: str
    route: str
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]
    proof: dict[str, Any] = dataclasses.field(default_factory=dict)
    porter: str = ""
    mlx: str = ""
    torch: str = ""


@contextmanager
def stage(directory: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """A new folder beside `directory` to write into; it takes the name when the block ends well, else it goes.

    An older output stays until the new one is complete and on the disk.
    Raises UsageError when `directory` exists and may not be replaced, MachineError when the disk fails.
    """
    final = Path(os.path.realpath(directory))
    _check_replaceable(final, overwrite)
    with _disk_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(
            tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent)
        )
    try:
        with _disk_errors(final):
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            _sync(temporary)
            _check_replaceable(final, overwrite)
            _take_name(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def clear(folder: Path) -> None:
    """Empties a staged folder, for another attempt."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_facts(folder: Path, facts: Facts) -> None:
    """Writes porter.json; versions that `facts` leaves empty are those installed here."""
    for value in (*facts.inputs, *facts.outputs):
        _check_value(value)
    content = {"schema": SCHEMA}
    for name in ("porter", "mlx", "torch"):
        content[name] = getattr(facts, name) or _version(name)  # type: ignore[assignment]
    for name in ("source", "sha256", "route", "inputs", "outputs", "proof"):
        content[name] = getattr(facts, name)
    write_json(folder / FACTS_FILE, content)


def read_facts(directory: str | Path) -> Facts:
    """Reads porter.json; InputError when `directory` is not a porter output."""
    path = Path(directory) / FACTS_FILE
    content = read_json(path)
    fields = [field.name for field in dataclasses.fields(Facts)]
    missing = [name for name in fields if name not in content]
    if content.get("schema") != SCHEMA or missing:
        raise InputError(
            f"{path} is not of this porter (schema 1, lacks {missing}): convert again."
        )
    facts = {name: content[name] for name in fields}
    try:
        for side in ("inputs", "outputs"):
            facts[side] = tuple(facts[side])
            for value in facts[side]:
                _check_value(value)
    except (UsageError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}): convert again.") from None
    return Facts(**facts)


def write_config(
    folder: Path,
    fields: Mapping[str, Any],
    model_type: str,
    source_config: Mapping[str, Any] | None = None,
) -> None:
    """Writes config.json: what the source's had, over it ModelArgs' fields, model_type and model_file."""
    own = {**fields, "model_type": model_type, "model_file": MODEL_FILE}
    write_json(folder / CONFIG_FILE, {**(source_config or {}), **own})


def pass_through(folder: Path, files: Iterable[Path]) -> None:
    """Copies tokenizer, processor and generation files; one that porter writes itself stays porter's."""
    for file in files:
        target = folder / file.name
        if not target.exists():
            shutil.copyfile(file, target)


def write_json(path: Path, content: object) -> None:
    """Writes `content` as indented JSON."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object; InputError when it does not."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the folder.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not proper JSON ({error}): convert again.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold a JSON object: convert again.")
    return content


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


def _check_value(value: Any) -> None:
    """One entry of inputs or outputs, as porter.json's schema has it."""
    if not isinstance(value, Mapping) or any(name not in value for name in VALUE_FIELDS):
        raise UsageError(
            f"an entry of {FACTS_FILE} needs {', '.join(VALUE_FIELDS)}, and is {value!r}"
        )
    permute, shape = value["permute"], value["shape"]
    if permute is not None and sorted(permute) != list(range(len(shape))):
        raise UsageError(f"{value['name']!r} of shape {shape} cannot be permuted by {permute}")


def _check_replaceable(final: Path, overwrite: bool) -> None:
    """`final` is free, or an older output (or an empty folder) that `overwrite` allows to go."""
    if not os.path.lexists(final):
        return
    if not overwrite:
        raise UsageError(f"{final} exists: name another folder, or pass --overwrite.")
    if not final.is_dir():
        raise UsageError(f"{final} is a file: name a folder.")
    if any(final.iterdir()) and not _is_output(final):
        raise UsageError(
            f"{final} holds something that porter did not write, and is left alone: name another folder."
        )


def _is_output(folder: Path) -> bool:
    try:
        content = read_json(folder / FACTS_FILE)
    except InputError:
        return False
    return "schema" in content and "porter" in content


def _take_name(temporary: Path, final: Path) -> None:
    """Renames `temporary` to `final`; what stood there goes only afterwards, and comes back when that fails."""
    old = None
    if final.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".old", dir=final.parent))
        final.rename(old)
    try:
        temporary.rename(final)
    except BaseException:
        if old is not None:
            old.rename(final)
        raise
    _sync_one(final.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _disk_errors(final: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = _FULL.get(error.errno or 0, str(error))
        raise MachineError(
            f"{final} cannot be written ({reason}); nothing of it is left behind: free space, or name another place."
        ) from error


def _sync(folder: Path) -> None:
    """Brings every file of the folder to the disk."""
    for path in (*folder.rglob("*"), folder):
        _sync_one(path)


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _version(package: str) -> str:
    if package == "porter":  # of this code, installed or run from a checkout
        return __version__
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
