"""Quantizes the weights of a port in place, layer by layer: `porter convert -q`."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.nn as nn

from porter import artifact
from porter.errors import UsageError
from porter.weights import recipes, writer
from porter.weights.functional_use import FunctionalUse
from porter.weights.mapping import Mapping as Recipes
from porter.weights.overlay import PREFIX
from porter.weights.ports import build
from porter.weights.quantization import Quantization, quantization
from porter.weights.quantized import QuantizedTensors
from porter.weights.readers import SafetensorsFile, open_tensors
from porter.weights.tensors import DTYPES, Tensors

INDEX = "model.safetensors.index.json"


def quantize_folder(folder: Path, how: Mapping[str, Any]) -> list[str]:
    """Quantizes the Linear and Embedding layers of the port in `folder`; returns what the user should hear.

    how: bits, group_size and mode, each of which may be missing. config.json gets "quantization" as mlx-lm
    writes it. The dense weights go when the quantized ones are complete. mapping.toml stays as it is: its
    recipes give the dense weights. Raises UsageError when no layer can be quantized so.
    """
    common = quantization(how)
    config = artifact.read_json(folder / artifact.CONFIG_FILE)
    if "quantization" in config:
        raise UsageError(f"{folder} is quantized already: quantize the dense port.")
    tensors = open_tensors(folder)
    model = build(folder, config)
    layers, left = choose(model, folder, tensors, common)
    if not layers:
        raise UsageError(
            f"no layer can be quantized in groups of {common.group_size}: "
            + ("leave -q out" if not left else f"{left[0]}; try a smaller --q-group-size")
            + "."
        )
    count = sum(tensors.spec(key).size for key in tensors.keys())  # noqa: SIM118
    view = QuantizedTensors(tensors, layers)
    nbytes = _replace_weights(folder, view)
    special = {path: own.to_dict() for path, own in layers.items() if own != common}
    entry = {**common.to_dict(), **special}
    config |= {"quantization": entry, "quantization_config": entry}  # both, as mlx-lm does
    artifact.write_json(folder / artifact.CONFIG_FILE, config)
    note = (
        f"{len(layers)} of {len(layers) + len(left)} Linear and Embedding layers are quantized to "
        f"{common.bits} bits in groups of {common.group_size} ({common.mode}): "
        f"{8 * nbytes / max(count, 1):.2f} bits per weight over all"
    )
    return [note, *(f"not quantized: {reason}" for reason in left)]


def choose(
    model: nn.Module, folder: Path, tensors: Tensors, common: Quantization
) -> tuple[dict[str, Quantization], list[str]]:
    """The layers to quantize, and why each other Linear or Embedding is left alone."""
    file = folder / artifact.MODEL_FILE
    code = file if file.is_file() else Path(inspect.getfile(type(model)))  # mlx-lm's own file
    use = FunctionalUse.of(code.read_text("utf-8"))
    table = Recipes.load(folder / artifact.MAPPING_FILE).tensors
    predicate = getattr(model, "quant_predicate", None)
    classes = {path: type(module).__name__ for path, module in model.named_modules()}
    layers: dict[str, Quantization] = {}
    left: list[str] = []
    for path, module in model.named_modules():
        key = f"{path}.weight"
        if not _is_layer(module) or key not in tensors.keys():  # noqa: SIM118
            continue
        verdict = predicate(path, module) if predicate is not None else True
        own = quantization({**common.to_dict(), **verdict}) if isinstance(verdict, dict) else common
        spec = tensors.spec(key)
        if not verdict:
            left.append(f"{path}, as the model's quant_predicate says")
        elif not DTYPES[spec.dtype].floating:
            left.append(f"{path}, whose weight is {spec.dtype}")
        elif spec.shape[-1] % own.group_size:
            left.append(
                f"{path}, whose {spec.shape[-1]} inputs are no multiple of {own.group_size}"
            )
        elif use.reads(classes, path):
            left.append(f"{path}, whose weight model.py uses as an array")
        elif key in table and any(k.startswith(PREFIX) for k in recipes.sources(table[key])):
            left.append(f"{path}, whose weight is a constant")
        else:
            layers[path] = own
    return _without_twins(layers, table, left), left


def _without_twins(
    layers: dict[str, Quantization], table: Mapping[str, recipes.Recipe], left: list[str]
) -> dict[str, Quantization]:
    """Leaves out a layer one of whose twins (the same source tensor elsewhere in the port) stays dense."""
    quantized = {f"{path}.weight" for path in layers}
    dense = {str(recipe) for key, recipe in table.items() if key not in quantized}
    kept = {}
    for path, how in layers.items():
        if str(table.get(f"{path}.weight")) in dense:
            left.append(f"{path}, which is tied to a tensor that stays dense")
        else:
            kept[path] = how
    return kept


def _is_layer(module: nn.Module) -> bool:
    """A layer of MLX's own: what a port's class adds to one, its quantized form would lack."""
    own = type(module).__module__.partition(".")[0] in ("mlx", "mlx_lm")
    return own and hasattr(module, "to_quantized")


def _replace_weights(folder: Path, view: QuantizedTensors) -> int:
    """Writes the tensors of `view` beside the folder's weights, then in their place; returns the bytes."""
    old = sorted(folder.glob("model*.safetensors"))
    first = SafetensorsFile(old[0])
    metadata = first.metadata
    first.close()
    table = {key: recipes.source(key) for key in view.keys()}  # noqa: SIM118
    with tempfile.TemporaryDirectory(prefix=".quantized.", dir=folder) as beside:
        written = writer.write(table, view, beside, metadata=metadata)
        view.close()
        for file in (*old, folder / INDEX):
            file.unlink(missing_ok=True)
        for file in Path(beside).iterdir():
            file.rename(folder / file.name)
    return written.nbytes
