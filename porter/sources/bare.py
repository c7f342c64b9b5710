"""A weight file without code: it can be read with a mapping, or give its weights to a factory."""

from __future__ import annotations

from pathlib import Path

from porter.errors import UsageError
from porter.sources.checkpoints import open_checkpoint
from porter.sources.fingerprint import hash_files
from porter.sources.huggingface_config import passthrough_files, read_config
from porter.sources.source import Source, SourceOptions


def resolve_bare(spec: str, path: Path, options: SourceOptions) -> Source:
    """A Source of kind "checkpoint", without a module; needs --mapping."""
    if options.mapping is None:
        raise UsageError(
            f"{spec} holds weights and no model; give the model with its weights as "
            f"FILE.py:FACTORY --checkpoint {spec}, or the mapping.toml of an earlier port as --mapping"
        )
    if options.checkpoint is not None or options.inputs:
        raise UsageError(
            f"--checkpoint and --input do nothing for {spec}, which has no model; leave them out"
        )
    config = read_config(path) if (path / "config.json").is_file() else None
    tensors, files = open_checkpoint(path, options.trust_pickle)
    return Source(
        spec=spec,
        options=options,
        kind="checkpoint",
        name=path.stem if path.is_file() else path.name,
        module=None,
        args=(),
        kwargs={},
        dynamic={},
        config=config,
        tensors=tensors,
        passthrough=passthrough_files(path) if path.is_dir() else (),
        fingerprint=lambda: hash_files(files),
    )
