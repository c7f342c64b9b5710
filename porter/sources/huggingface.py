"""A Hugging Face checkpoint folder: config.json names the class, the shards give the weights lazily."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from porter.errors import InputError, UnsupportedError, UsageError
from porter.sources.bare import resolve_bare
from porter.sources.checkpoints import KeyMatch, check_shapes, find_keys, open_checkpoint
from porter.sources.dtypes import cast_inputs, torch_dtype
from porter.sources.fingerprint import hash_files
from porter.sources.huggingface_config import model_class, passthrough_files, read_config
from porter.sources.huggingface_inputs import Examples, example_inputs
from porter.sources.huggingface_keys import renamed_keys
from porter.sources.huggingface_model import ModelPlan, build_empty, convert_in_memory, fill
from porter.sources.inputs import parse_inputs, place_inputs
from porter.sources.names import listed
from porter.sources.source import Source, SourceOptions
from porter.weights.readers import ModuleTensors


def resolve_folder(spec: str, folder: Path, options: SourceOptions) -> Source:
    """The folder's model with parameters on the meta device and buffers real."""
    if options.mapping is not None:
        return resolve_bare(spec, folder, options)
    if options.checkpoint is not None:
        raise UsageError(
            f"--checkpoint gives weights to a factory, and {spec} has its own; leave it out"
        )
    raw = read_config(folder)
    cls, config = model_class(folder, raw, options.trust_remote_code)
    dtype = torch_dtype(options.dtype) or torch.float32
    plan = ModelPlan(folder, cls, config, dtype, options.seed)
    tensors, files = open_checkpoint(folder, options.trust_pickle)
    module, log = build_empty(plan)
    args, kwargs, dynamic, notes = _inputs(module, config, options, dtype)
    known, parts = renamed_keys(module, tensors.keys())
    match = find_keys(tensors, module, known)
    source = Source(
        spec=spec,
        options=options,
        kind="huggingface",
        name=cls.__name__,
        module=module,
        args=args,
        kwargs=kwargs,
        dynamic=dynamic,
        config=raw,
        tensors=tensors,
        keys=match.keys,
        fingerprint=lambda: hash_files(files),
        build=lambda: fill(module, tensors, match.keys),
        constructors=log.by_path(module),
        called_with=log.call_of(module),
        passthrough=passthrough_files(folder),
        unused=match.unused,
        notes=(*match.notes, *notes),
    )
    if raw.get("quantization_config"):
        source.build = lambda: _refuse_quantized(source)
    elif match.missing and parts:
        _convert(source, plan, match, parts)
        source.notes += notes
    elif match.missing:
        raise _missing(source, match.missing)
    else:
        check_shapes(tensors, module, match.keys, spec)
    return source


def _convert(
    source: Source, plan: ModelPlan, match: KeyMatch, parts: dict[str, tuple[str, ...]]
) -> None:
    """Replaces the lazily read weights by those that transformers converts in memory."""
    module, missing, unused = convert_in_memory(plan)
    if missing:
        raise _missing(source, missing)
    source.stored = source.tensors
    source.parts = {name: (key,) for name, key in match.keys.items()} | parts
    for plain, chosen in zip(module.modules(), source.module.modules(), strict=True):  # type: ignore[union-attr]
        plain.__class__ = type(chosen)  # which takes the example inputs
    source.module, source.build = module, lambda: module
    source.tensors, source.keys, source.unused = ModuleTensors(module.state_dict()), {}, unused
    source.notes = (
        f"transformers converted the checkpoint in memory, for {len(match.missing)} tensors: "
        f"{listed(match.missing, 3)}",
    )


def _missing(source: Source, names: tuple[str, ...]) -> InputError:
    return InputError(
        f"{source.spec}: {len(names)} tensors are missing for {source.name}: {listed(names)}; "
        f"the checkpoint has {listed(source.tensors.keys(), 4)}; fetch it again, or correct config.json"
    )


def _refuse_quantized(source: Source) -> torch.nn.Module:
    raise UnsupportedError(
        f"{source.spec} is quantized, and porter does not run quantized weights in torch; "
        "validate against the model that it was quantized from"
    )


def _inputs(
    module: torch.nn.Module, config: Any, options: SourceOptions, dtype: torch.dtype
) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, dict[int, str]], tuple[str, ...]]:
    """The example inputs that --input describes; where it names none, those the configuration suggests."""
    given = parse_inputs(options.inputs, options.seed)
    examples = Examples() if given else example_inputs(module, config, options.seed)
    kwargs: dict[str, Any] = dict(examples.values)
    dynamic = examples.dynamic
    place_inputs(module, (), {}, given)  # checks the names
    kwargs |= {example.name: example.value for example in given}
    dynamic |= {example.name: example.dims for example in given if example.dims}
    return (), cast_inputs(kwargs, dtype), dynamic, examples.notes
