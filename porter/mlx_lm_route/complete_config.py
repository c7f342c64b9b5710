"""config.json as an mlx-lm file expects it, from the transformers configuration object.

transformers 5 writes what differs from a class's defaults, and keeps rotary settings in one dict, `rope_parameters`.
mlx-lm's files read flat fields of their `ModelArgs`, with defaults of their own. So each field that config.json lacks is
looked up: in the configuration object, in the modules that were built from it, and, where today's class has another
name for it, by giving the class the old name and seeing where the value goes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from porter.errors import UnsupportedError
from porter.sources.huggingface_config import decoded_floats

#: Values that no configuration has by itself: set under an old name, they show where the class keeps it.
MARKS: tuple[Any, ...] = (0.37109375, 12347)
_MISSING = object()
Path = tuple[str, ...]
ArgsOf = Callable[[Mapping[str, Any]], Any]


def complete_config(
    raw: Mapping[str, Any], settings: Any, args_of: ArgsOf, module: Any = None
) -> dict[str, Any]:
    """`raw` (a config.json) with every field of `args_of(raw)`, a ModelArgs class, that can be told.

    settings: the transformers configuration of `raw`. module: the model that was built from it. A configuration in the
    configuration (of a model's text part, say) is completed likewise.
    """
    full = json.loads(settings.to_json_string(use_diff=False))
    config = dict(raw)
    for field in dataclasses.fields(args_of(raw)):
        if raw.get(field.name) is not None:
            continue
        value = _value(field.name, settings, full)
        if value is None or value is _MISSING:
            built = _built(field.name, module)
            value = value if built is _MISSING else built
        if value is not _MISSING:
            config[field.name] = value
    for name in settings.sub_configs:
        part = getattr(settings, name, None)
        if isinstance(full.get(name), dict) and part is not None and name in config:
            try:
                config[name] = complete_config(full[name], part, args_of)
            except UnsupportedError:  # mlx-lm has no file for that part by itself
                config[name] = full[name]
    return config


def undetermined(config: Mapping[str, Any], args: Any) -> dict[str, list[Any]]:
    """The fields that `args` requires and `config` lacks, with what each may be; none is known for most types.

    A flag may be either; a size is one that the configuration has under another name.
    """
    sizes = [value for value in config.values() if type(value) is int and value > 1]
    choices: dict[str, list[Any]] = {"bool": [False, True], "int": list(dict.fromkeys(sizes))}
    found = {}
    for field in dataclasses.fields(args):
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and field.name not in config:
            kind = getattr(field.type, "__name__", str(field.type))
            found[field.name] = choices.get(kind, [])
    return found


def spellings(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """`config`; without its nulls, for files that take absence only; with the layer kinds' names before transformers 5."""
    given = {name: value for name, value in config.items() if value is not None}
    former = {name: _former_kinds(value) for name, value in config.items()}
    seen: list[dict[str, Any]] = []
    for other in (config, given, former, {name: former[name] for name in given}):
        if other not in seen:
            seen.append(other)
            yield other


def _former_kinds(value: Any) -> Any:
    from transformers import configuration_utils

    former: dict[str, str] = {}
    for old, new in getattr(configuration_utils, "_LEGACY_LAYER_TYPE_REMAP", {}).items():
        former.setdefault(new, old)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [former.get(item, item) for item in value]
    return value


def _value(name: str, settings: Any, full: Mapping[str, Any]) -> Any:
    """What `settings` has for a field of that name, or _MISSING."""
    rotary = full.get("rope_parameters") or full.get("rope_scaling")
    if name == "rope_scaling":
        return _scaling(rotary)
    if name in full:
        return full[name]
    found = getattr(settings, name, _MISSING)  # an alias, or computed
    if found is not _MISSING and _is_json(found):
        return found
    if isinstance(rotary, dict) and name in rotary:
        return rotary[name]
    for look_up in (_under_old_name, _by_convention, _by_trying):
        found = look_up(name, settings, full)
        if found is not _MISSING:
            break
    return found


def _scaling(rotary: Any) -> Any:
    """`rope_scaling` as it was before transformers 5: None where nothing is scaled, its kind under "type" too."""
    if not isinstance(rotary, dict):
        return _MISSING
    if isinstance(rotary.get("full_attention"), dict):
        rotary = rotary["full_attention"]
    kind = rotary.get("rope_type", "default")
    return None if kind == "default" else {**rotary, "type": kind}


def _under_old_name(name: str, settings: Any, full: Mapping[str, Any]) -> Any:
    """The value at the place where the configuration's class puts what it is given as `name`."""
    for mark in MARKS:
        marked = _made(settings, {name: mark})
        values = [_at(full, path) for path in _places(marked, mark) if path != (name,)]
        if values and all(value == values[0] for value in values):
            return values[0]
    return _MISSING


def _by_convention(name: str, settings: Any, full: Mapping[str, Any]) -> Any:
    """What transformers takes an absent field to mean.

    DynamicCache has the rule for the kinds of layers, rope_init_functions that for the rotated part of a head.
    """
    count = full.get("num_hidden_layers")
    if name == "layer_types" and isinstance(count, int):
        slides = full.get("sliding_window") is not None
        return ["sliding_attention" if slides else "full_attention"] * count
    if name == "partial_rotary_factor":
        return 1.0
    return _MISSING


def _by_trying(name: str, settings: Any, full: Mapping[str, Any]) -> Any:
    """The number that as `name` gives the layers' kinds that the configuration has, as a period of theirs would."""
    for key, wanted in full.items():
        if not (isinstance(wanted, list) and len(wanted) > 1 and isinstance(wanted[0], str)):
            continue
        rest = {k: v for k, v in full.items() if k not in (key, name)}
        made = {n: _made(settings, {**rest, name: n}).get(key) for n in range(1, len(wanted) + 1)}
        if any(value not in (wanted, None) for value in made.values()):
            fitting = [n for n, value in made.items() if value == wanted]
            if fitting:
                return fitting[0]
    return _MISSING


def _built(name: str, module: Any) -> Any:
    """The attribute of that name that the model's parts have, where all that have it agree."""
    found = [
        vars(part)[name]
        for part in (module.modules() if module is not None else ())
        if isinstance(vars(part).get(name), (bool, int, float, str))
    ]
    return found[0] if found and all(value == found[0] for value in found) else _MISSING


def _made(settings: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a configuration of the same class made from `fields`; none where the class refuses them."""
    try:
        made = type(settings).from_dict(decoded_floats(dict(fields)))
        return dict(json.loads(made.to_json_string(use_diff=False)))
    except Exception:  # noqa: BLE001 -- the class may refuse a name or a value in any way
        return {}


def _places(value: Any, mark: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _places(item, mark, (*path, key))
    elif type(value) is type(mark) and value == mark:
        yield path


def _at(value: Any, path: Path) -> Any:
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return _MISSING
        value = value[key]
    return value


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
