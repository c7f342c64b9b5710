"""config.json of a Hugging Face folder, and the transformers class that it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from porter.errors import InputError
from porter.sources.names import did_you_mean
from porter.sources.running import foreign_code, import_extra

_LONGEST = 1 << 24
_FLOATS = ("Infinity", "-Infinity", "NaN")
# What tokenizers, processors and generation read: it goes along with the port.
_PASSED = (
    "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "preprocessor_config.json",
    "processor_config.json", "video_preprocessor_config.json", "generation_config.json", "chat_template*",
    "spiece.model", "sentencepiece*.model", "*.tiktoken", "normalizer.json",
)  # fmt: skip


def read_config(folder: Path) -> dict[str, Any]:
    """The JSON object in `folder`/config.json; nothing but JSON is read."""
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder} has no config.json; name a Hugging Face checkpoint folder")
    try:
        if path.stat().st_size > _LONGEST:
            raise InputError(
                f"{path} is over {_LONGEST} bytes, which no configuration is; fetch it again"
            )
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); fetch it again") from error
    if not isinstance(config, dict):
        raise InputError(
            f"{path} holds a {type(config).__name__} and not an object; fetch it again"
        )
    return config


def model_class(folder: Path, config: dict[str, Any], trust_remote_code: bool) -> tuple[type, Any]:
    """(model class, configuration) from transformers, or from the folder's own code where that is trusted."""
    transformers = import_extra("transformers")
    remote = config.get("auto_map")
    if remote and not trust_remote_code:
        raise InputError(
            f"{folder} brings Python code of its own ({_code_of(remote)}); read it, then give --trust-remote-code"
        )
    names = config.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"{folder}/config.json: architectures is {names!r} and should be a list of class names"
        )
    if remote:
        with foreign_code(f"the code in {folder}", "read it to see why"):
            return _remote_class(transformers, folder, remote, names)
    known = transformers.CONFIG_MAPPING
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in known:
        raise InputError(
            f"{folder}/config.json: transformers {transformers.__version__} knows no model_type {kind!r}"
            f"{did_you_mean(str(kind), known.keys())}; install a newer transformers, or give a factory"
        )
    with foreign_code(f"reading {folder}/config.json", "check its fields"):
        settings = known[kind].from_dict(
            decoded_floats({k: v for k, v in config.items() if "attn_implementation" not in k})
        )
    for name in names:
        # Only a class of transformers itself: the name comes from the file.
        found = (
            getattr(transformers, name, None)
            if name.isidentifier() and not name.startswith("_")
            else None
        )
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found, settings
    return _automatic_class(transformers, folder, names, settings), settings


def decoded_floats(value: Any) -> Any:
    """`value` with numbers for what transformers writes as {"__float__": "Infinity"}, since JSON has no infinity."""
    if isinstance(value, dict):
        if set(value) == {"__float__"} and value["__float__"] in _FLOATS:
            return float(value["__float__"])
        return {key: decoded_floats(item) for key, item in value.items()}
    return [decoded_floats(item) for item in value] if isinstance(value, list) else value


def passthrough_files(folder: Path) -> tuple[Path, ...]:
    """The tokenizer, processor and generation files of `folder`; links that leave it are left out."""
    root = folder.resolve()
    # A Hugging Face cache links snapshots/REVISION/FILE to blobs/HASH.
    allowed = [root] + ([root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [])
    found = {path for pattern in _PASSED for path in folder.glob(pattern) if path.is_file()}
    return tuple(sorted(path for path in found if path.resolve().parent in allowed))


def _automatic_class(transformers: Any, folder: Path, names: list[str], settings: Any) -> type:
    try:
        found = transformers.AutoModel._model_mapping[type(settings)]
    except KeyError:
        raise InputError(
            f"{folder}/config.json: transformers has neither {', '.join(names) or 'an architecture'} nor a base model "
            f"for {settings.model_type!r}; give a factory that returns the model"
        ) from None
    chosen: type = found[0] if isinstance(found, tuple) else found
    return chosen


def _remote_class(
    transformers: Any, folder: Path, remote: Any, names: list[str]
) -> tuple[type, Any]:
    settings = transformers.AutoConfig.from_pretrained(
        folder, trust_remote_code=True, local_files_only=True
    )
    classes = [
        value
        for key, value in remote.items()
        if key.startswith("AutoModel") and isinstance(value, str)
    ]
    for reference in sorted(classes, key=lambda value: value.rpartition(".")[2] not in names):
        load = transformers.dynamic_module_utils.get_class_from_dynamic_module
        return load(reference, str(folder), local_files_only=True), settings
    return _automatic_class(transformers, folder, names, settings), settings


def _code_of(remote: Any) -> str:
    values = remote.values() if isinstance(remote, dict) else [remote]
    return ", ".join(sorted(str(value) for value in values))
