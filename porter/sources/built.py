"""Sources whose module is built here with real values: factories, timm, torchvision, and the Python API's."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from porter.errors import UsageError
from porter.frontends.known_dataclasses import know_dataclasses
from porter.sources.checkpoints import match_keys, open_checkpoint
from porter.sources.constructors import ConstructorLog
from porter.sources.dtypes import cast_inputs, torch_dtype
from porter.sources.fingerprint import hash_files, hash_state
from porter.sources.inputs import parse_inputs, place_inputs
from porter.sources.loading import load_into
from porter.sources.plugins import load_plugins
from porter.sources.source import Source, SourceOptions
from porter.weights.readers import ModuleTensors


def from_module(
    module: torch.nn.Module,
    args: Sequence[Any] = (),
    kwargs: dict[str, Any] | None = None,
    options: SourceOptions | None = None,
) -> Source:
    """The Python API's source: a module that the caller built, with example inputs.

    A module in training mode is copied first: the caller's keeps its mode.
    """
    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            f"a source must be a torch.nn.Module, not {type(module).__name__}; pass the model itself"
        )
    options = options or SourceOptions()
    load_plugins(options.plugins)
    if module.training or options.dtype is not None or options.checkpoint is not None:
        module = copy.deepcopy(module)
    name = type(module).__name__
    return built_source(name, options, "module", name, module, tuple(args), dict(kwargs or {}))


def built_source(
    spec: str,
    options: SourceOptions,
    kind: str,
    name: str,
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    dynamic: dict[str, dict[int, str]] | None = None,
    constructors: ConstructorLog | None = None,
) -> Source:
    """A Source around `module`, with --input, --checkpoint and --dtype applied."""
    examples = parse_inputs(options.inputs, options.seed)
    args, kwargs = know_dataclasses(place_inputs(module, args, kwargs, examples))
    if not args and not kwargs:
        raise UsageError(
            f"{spec} comes without example inputs; return (module, args) from the factory, "
            "or describe them: --input NAME=float32[batch=2,3,224,224]"
        )
    constructors = constructors or ConstructorLog.of_config(module)
    dynamic = dict(dynamic or {}) | {example.name: example.dims for example in examples}
    dtype = torch_dtype(options.dtype)
    if dtype is not None:
        module = module.to(dtype)
        args, kwargs = cast_inputs(args, dtype), cast_inputs(kwargs, dtype)
    module = module.eval()
    source = Source(
        spec=spec,
        options=options,
        kind=kind,
        name=name,
        module=module,
        args=args,
        kwargs=kwargs,
        dynamic={name: dims for name, dims in dynamic.items() if dims},
        tensors=ModuleTensors(module.state_dict()),
        fingerprint=lambda: hash_state(module.state_dict()),
        build=lambda: module,
        constructors=constructors.by_path(module),
        called_with=constructors.call_of(module),
    )
    return _with_checkpoint(source, Path(options.checkpoint)) if options.checkpoint else source


def _with_checkpoint(source: Source, path: Path) -> Source:
    """`source` with the weights in `path` in place of those its module was built with."""
    module = source.module
    assert module is not None
    source.tensors, files = open_checkpoint(path, source.options.trust_pickle)
    match = match_keys(
        source.tensors, module, what=f"{source.spec} with --checkpoint {path}", strict=True
    )
    source.keys, source.unused, source.notes = match.keys, match.unused, match.notes
    source.fingerprint = lambda: hash_files(files)
    loaded = False

    def build() -> torch.nn.Module:
        nonlocal loaded
        if not loaded:
            load_into(module, source.tensors, source.keys)
            loaded = True
        return module

    source.build = build
    return source
