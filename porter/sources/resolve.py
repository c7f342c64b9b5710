"""Tells what kind of SOURCE a text names, and hands it to the file that knows that kind."""

from __future__ import annotations

import re
from pathlib import Path

from porter.errors import InputError, UsageError
from porter.sources.bare import resolve_bare
from porter.sources.checkpoints import WEIGHT_SUFFIXES
from porter.sources.exported import resolve_exported
from porter.sources.factories import resolve_factory
from porter.sources.huggingface import resolve_folder
from porter.sources.plugins import load_plugins
from porter.sources.remote import fetch
from porter.sources.source import Source, SourceOptions
from porter.sources.timm_models import resolve_timm
from porter.sources.torchvision_models import resolve_torchvision

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def resolve(spec: str, options: SourceOptions | None = None) -> Source:
    """The Source that `spec` names; docs/ARCHITECTURE.md lists what it may be.

    Raises UsageError, InputError, or MachineError (a missing package, no network); nothing is written but a
    download's cache.
    """
    options = options or SourceOptions()
    load_plugins(options.plugins)
    if not spec or "\0" in spec:
        raise UsageError(
            "SOURCE is empty; name a file, a folder, FILE.py:FACTORY, timm:NAME or torchvision:NAME"
        )
    if spec.startswith("timm:"):
        return resolve_timm(spec, options)
    if spec.startswith("torchvision:"):
        return resolve_torchvision(spec, options)
    if _SCHEME.match(spec):
        return _resolve_path(spec, fetch(spec), options)
    return _resolve_path(spec, Path(spec).expanduser(), options)


def _resolve_path(spec: str, path: Path, options: SourceOptions) -> Source:
    if path.is_dir():
        return resolve_folder(spec, path, options)
    if path.is_file():
        if path.suffix == ".pt2":
            return resolve_exported(spec, path, options)
        if path.suffix in WEIGHT_SUFFIXES:
            return resolve_bare(spec, path, options)
        if path.suffix == ".py":
            raise UsageError(
                f"{spec} names no factory; write {spec}:FACTORY, a function that returns the model"
            )
        raise InputError(
            f"{spec} is no kind of file that porter reads; it reads .pt2, {', '.join(WEIGHT_SUFFIXES)}"
        )
    if ":" in spec:
        return resolve_factory(spec, options)
    raise InputError(
        f"{spec} does not exist; name a file, a folder, FILE.py:FACTORY, timm:NAME, torchvision:NAME or hf://ORG/REPO"
    )
