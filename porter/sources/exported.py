"""A `.pt2` file: an ExportedProgram that torch.export saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from porter.errors import InputError, UsageError
from porter.sources.fingerprint import hash_files
from porter.sources.inputs import parse_inputs
from porter.sources.names import did_you_mean
from porter.sources.pt2_safety import check_archive
from porter.sources.running import foreign_code
from porter.sources.source import Source, SourceOptions
from porter.weights.readers import ModuleTensors


def resolve_exported(spec: str, path: Path, options: SourceOptions) -> Source:
    """The program and the module it unlifts to; the file is checked before torch reads it."""
    if options.checkpoint is not None or options.dtype is not None:
        raise UsageError(
            f"--checkpoint and --dtype cannot change {spec}, which is already exported; leave them out"
        )
    if not options.trust_pickle:
        check_archive(path)
    program = _load(path)
    with foreign_code(
        f"building the module of {path}", "export it again with this version of torch"
    ):
        # Guards would be compiled from text in the file; porter checks shapes itself.
        module = program.module(check_guards=False)
    args, kwargs = _inputs(spec, program, options)
    return Source(
        spec=spec,
        options=options,
        kind="pt2",
        name=path.stem,
        module=module,
        args=args,
        kwargs=kwargs,
        dynamic={},
        program=program,
        tensors=ModuleTensors(dict(program.state_dict)),
        fingerprint=lambda: hash_files([path]),
        # An exported module has no eval(): what it does was fixed when it was exported.
        build=lambda: module,
    )


def _load(path: Path) -> torch.export.ExportedProgram:
    # torch.export.load would fall back to the format of torch 2.7, which is pickled.
    from torch.export.pt2_archive._package import load_pt2

    with foreign_code(f"loading {path}", "export it again with this version of torch"):
        programs = load_pt2(str(path)).exported_programs
    if len(programs) != 1:
        raise InputError(f"{path} holds {len(programs)} programs; save one with torch.export.save")
    return next(iter(programs.values()))


def _inputs(
    spec: str, program: torch.export.ExportedProgram, options: SourceOptions
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example inputs in the file, with --input's put in by the graph's input names."""
    given = parse_inputs(options.inputs, options.seed)
    names = [str(name) for name in program.graph_signature.user_inputs]
    for example in given:
        if example.name not in names:
            raise UsageError(
                f"--input {example.name}=...: {spec} has no such input{did_you_mean(example.name, names)}; "
                f"it takes {', '.join(names)}"
            )
    values = {example.name: example.value for example in given}
    if program.example_inputs is None:
        if missing := [name for name in names if name not in values]:
            raise UsageError(
                f"{spec} holds no example inputs; give --input {missing[0]}=float32[2,3,224,224]"
            )
        leaves: list[Any] = [values[name] for name in names]
    else:
        leaves = list(torch.utils._pytree.tree_leaves(program.example_inputs))
        leaves = [values.get(name, leaf) for name, leaf in zip(names, leaves, strict=True)]
    args, kwargs = torch.utils._pytree.tree_unflatten(leaves, program.call_spec.in_spec)
    return tuple(args), dict(kwargs)
