"""`porter convert NEW_CHECKPOINT --mapping DIR/mapping.toml`: an earlier port with other weights, not traced again.

The new checkpoint may be of another size of the same model, where model.py's settings give all of its sizes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from porter import artifact
from porter.compile import Port, compile_port
from porter.errors import InputError
from porter.family import config_of
from porter.frontends.input_dims import example_inputs
from porter.sources import Source, resolve
from porter.sources.huggingface_config import passthrough_files
from porter.weights import writer
from porter.weights.mapping import Mapping as Recipes
from porter.weights.overlay import PREFIX, Overlay, stored_constants
from porter.weights.ports import build, shapes
from porter.weights.readers import Tensors, open_tensors
from porter.weights.recipes import shape_of, sources
from porter.weights.templates import recipes_for
from porter.weights.tensors import DTYPES, mlx_dtype

Progress = Callable[..., None]

NEEDED = (artifact.FACTS_FILE, artifact.CONFIG_FILE, artifact.MODEL_FILE)
QUANTIZED = ("quantization", "quantization_config")


@dataclass(frozen=True, slots=True)
class Earlier:
    """The port that a mapping.toml belongs to."""

    folder: Path
    mapping: Recipes
    facts: artifact.Facts
    config: dict[str, Any]

    @classmethod
    def read(cls, file: Path) -> Earlier:
        """`file` is a mapping.toml, or the DIR that holds it; InputError when the port is not beside it."""
        file = file / artifact.MAPPING_FILE if file.is_dir() else file
        mapping, folder = Recipes.load(file), file.parent
        lacking = [name for name in NEEDED if not (folder / name).is_file()]
        if lacking:
            raise InputError(
                f"{file} lacks {', '.join(lacking)} beside it: name the mapping.toml in the "
                "folder that porter convert wrote, not a copy of it, or convert the model anew."
            )
        config = artifact.read_json(folder / artifact.CONFIG_FILE)
        return cls(folder, mapping, artifact.read_facts(folder), config)


def reuse(
    source: Source, file: Path, folder: Path, dtype: str | None, proof: bool, progress: Progress
) -> tuple[list[str], bool]:
    """Writes the port into `folder`; returns notes, and whether there is a reference to prove it with.

    Another size of the model is traced if there is to be a `proof`: its modules are found in its own graph.

    Raises InputError, before anything is written, when the checkpoint is not one for that port.
    """
    earlier = Earlier.read(file)
    kept = _constants(earlier, dtype)
    fields = _other_size(source, earlier)
    notes: list[str] = []
    if fields:
        progress("giving the port its other size")
        earlier, kept = _resized(source, earlier, fields, kept, proof)
        changes = ", ".join(f"{name} = {value!r}" for name, value in fields.items())
        notes.append(f"another size of the model: {changes}")
    tensors: Tensors = Overlay(source.tensors, kept) if kept else source.tensors
    _check_keys(source, earlier, tensors)
    _check_shapes(source, earlier, tensors)
    shutil.copyfile(earlier.folder / artifact.MODEL_FILE, folder / artifact.MODEL_FILE)
    writer.write(
        earlier.mapping.tensors, tensors, folder, dtype=dtype,
        progress=lambda name, done, total: progress("writing weights", done, total),
    )  # fmt: skip
    dense = {k: v for k, v in (source.config or earlier.config).items() if k not in QUANTIZED}
    settings = earlier.mapping.config
    artifact.write_config(folder, settings, str(earlier.config.get("model_type", "model")), dense)
    mapping = Recipes(source.spec, earlier.mapping.tensors, settings, earlier.mapping.ignored)
    mapping.save(folder / artifact.MAPPING_FILE)
    artifact.pass_through(folder, source.passthrough or passthrough_files(earlier.folder))
    if "quantization" in earlier.config:
        notes.append(f"{earlier.folder} is quantized, and this port is not: -q quantizes it too")
    spec, options = _reference(source, earlier.facts)
    if spec is None:
        notes.append(
            f"not proven: {source.spec} has no code to run, and the earlier port's source "
            f"({earlier.facts.source}) takes no checkpoint; record the model with `porter record` and "
            "run `porter validate` with the recording"
        )
    unproven = {
        "verdict": "unproven", "options": options,
        "modules": earlier.facts.proof.get("modules", []),
    }  # fmt: skip
    old = earlier.facts
    facts = artifact.Facts(
        spec or source.spec, source.sha256, old.route, old.inputs, old.outputs, unproven
    )
    artifact.write_facts(folder, facts)
    return notes, spec is not None


def _check_keys(source: Source, earlier: Earlier, tensors: Tensors) -> None:
    mapping = earlier.mapping
    unused, missing = writer.check_coverage(mapping.tensors, tensors, tuple(mapping.ignored))
    if missing:
        raise InputError(
            f"{source.spec} lacks {len(missing)} tensors that {earlier.folder}/mapping.toml reads "
            f"({writer.listed(missing)}): give a checkpoint of the same model, or convert it without --mapping."
        )
    # An integer left over is a counter or an index, as a fresh conversion has it too.
    unused = [key for key in unused if DTYPES[tensors.spec(key).dtype].floating]
    if unused:
        raise InputError(
            f"{source.spec} has {len(unused)} tensors that {earlier.folder}/mapping.toml has no place for "
            f"({writer.listed(unused)}): give a checkpoint of the same model, or convert it without --mapping."
        )


def _other_size(source: Source, earlier: Earlier) -> dict[str, Any]:
    """The settings that model.py reads and that the source has otherwise; none for a source that tells no settings."""
    own = config_of(source)
    return {
        name: own[name]
        for name, value in earlier.mapping.config.items()
        if name in own and name != "model_type" and _plain(own[name]) != _plain(value)
    }


def _resized(
    source: Source, earlier: Earlier, fields: dict[str, Any], kept: dict[str, Any], proof: bool
) -> tuple[Earlier, dict[str, Any]]:
    """The earlier port in the source's size: its model.py with other settings, and recipes like those that it has.

    With it the constants of that size, which the source's own graph holds, in place of those `kept` before.
    """
    config = earlier.config | fields
    port = _traced(source) if proof or kept else None
    if kept and port is None:
        raise InputError(
            f"{earlier.folder} keeps {len(kept)} constants that no checkpoint holds, and {source.spec} has no code that tells "
            "what they are in its size: name a factory with --checkpoint."
        )
    kept = port.kept if kept and port is not None else {}
    tensors: Tensors = Overlay(source.tensors, kept) if kept else source.tensors
    table = recipes_for(shapes(earlier.folder, config), earlier.mapping.tensors, tensors)
    mapping = replace(earlier.mapping, tensors=table, config={**earlier.mapping.config, **fields})
    if port is not None and port.recipes.keys() == table.keys():
        inputs, outputs, modules = tuple(port.inputs), tuple(port.outputs), port.modules
    else:
        inputs, outputs = _interface(source, earlier, config)
        modules = []
    facts = replace(
        earlier.facts,
        inputs=inputs,
        outputs=outputs,
        proof=earlier.facts.proof | {"modules": modules},
    )
    return replace(earlier, mapping=mapping, config=config, facts=facts), kept


def _traced(source: Source) -> Port | None:
    """What the source's own graph tells of its modules; None for a checkpoint without code."""
    if source.module is None and source.config is not None:
        source = resolve(source.spec, replace(source.options, mapping=None))
    return compile_port(source) if source.module is not None else None


def _interface(
    source: Source, earlier: Earlier, config: dict[str, Any]
) -> tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]]:
    """porter.json's inputs and outputs with the fixed sizes that this size of the model has; nothing is computed."""
    examples = example_inputs(source).items()
    named = {name: tuple(value.shape) for name, value in examples if hasattr(value, "shape")}
    inputs, arrays = [], []
    for entry in earlier.facts.inputs:
        order = entry["permute"] or range(len(entry["shape"]))
        given = named.get(entry["name"])
        shape = (
            [given[axis] for axis in order]
            if given is not None
            else [_EXAMPLE if isinstance(size, str) else size for size in entry["shape"]]
        )
        arrays.append(mx.zeros(shape, mlx_dtype(entry["dtype"])))
        inputs.append(entry | {"shape": _sizes(entry, arrays[-1])})
    try:
        result = build(earlier.folder, config)(*arrays)
    except ValueError as error:
        raise InputError(
            f"{earlier.folder}/model.py does not run in the size of {source.spec} ({error}): convert it without --mapping."
        ) from None
    flat = [array for _, array in tree_flatten(result)]
    outputs = [
        entry | {"shape": _sizes(entry, array)}
        for entry, array in zip(earlier.facts.outputs, flat, strict=True)
    ]
    return tuple(inputs), tuple(outputs)


#: A length for a dim that may have any.
_EXAMPLE = 8


def _sizes(entry: dict[str, Any], array: mx.array) -> list[int | str]:
    """The array's shape, with the names of the dims that may change where the entry has them."""
    return [
        old if isinstance(old, str) else size
        for old, size in zip(entry["shape"], array.shape, strict=True)
    ]


def _check_shapes(source: Source, earlier: Earlier, tensors: Tensors) -> None:
    """A checkpoint of another size than the port's; the sizes are those that model.py builds."""
    built = shapes(earlier.folder, earlier.config)
    table = earlier.mapping.tensors
    if odd := sorted(table.keys() ^ built.keys()):
        raise InputError(
            f"{earlier.folder} has a mapping.toml that its model.py does not fit ({writer.listed(odd)}): "
            "convert the model anew."
        )
    for path, recipe in table.items():
        shape = tuple(shape_of(recipe, tensors))
        if shape != built[path]:
            raise InputError(
                f"{source.spec} would give {path} the shape {list(shape)}, and the port in {earlier.folder} "
                f"has {list(built[path])}: it is of another size, so convert it without --mapping."
            )


def _constants(earlier: Earlier, dtype: str | None) -> dict[str, Any]:
    """The values that the graph held and no checkpoint does, by their path in the port."""
    table = earlier.mapping.tensors.values()
    paths = {k.removeprefix(PREFIX) for r in table for k in sources(r) if k.startswith(PREFIX)}
    if not paths:
        return {}
    tensors = open_tensors(earlier.folder)
    try:
        for stored in sorted({tensors.spec(path).dtype for path in paths}):
            if stored in ("float16", "bfloat16") and stored != dtype:
                raise InputError(
                    f"{earlier.folder} holds constants of the model rounded to {stored}: pass --dtype "
                    f"{stored}, or use the mapping.toml of a port made without --dtype."
                )
        return dict(stored_constants(tensors, table))
    finally:
        tensors.close()


def _reference(source: Source, facts: artifact.Facts) -> tuple[str | None, dict[str, Any]]:
    """What the new port is compared with: a SOURCE and its options, or None. Trust is never inherited."""
    own = source.options
    trust = {name: True for name in ("trust_pickle", "trust_remote_code") if getattr(own, name)}
    before = facts.proof.get("options", {})
    same = {name: before[name] for name in ("inputs", "seed") if before.get(name)}
    if source.module is not None:
        given = {"inputs": list(own.inputs), "seed": own.seed, "checkpoint": own.checkpoint}
        return source.spec, {**trust, **{k: v for k, v in given.items() if v}}
    if _takes_checkpoint(facts.source):
        return facts.source, {**same, **trust, "checkpoint": source.spec}
    if source.config is not None:
        return source.spec, {**same, **trust}
    return None, {**same, **trust}


def _takes_checkpoint(spec: str) -> bool:
    """Whether `spec` names code that builds the model: timm:, torchvision:, or a factory."""
    if spec.startswith(("timm:", "torchvision:")):
        return True
    where, _, name = spec.rpartition(":")
    return bool(where) and name.isidentifier() and not re.match(r"[A-Za-z][\w+.-]*://", spec)


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value
