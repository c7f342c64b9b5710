"""What DIR holds on the route to mlx-lm: the weights in its layout, its config, and no code."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from porter import artifact
from porter.mlx_lm_route.match_modules import match_modules
from porter.mlx_lm_route.plan import Handover
from porter.sources import Source
from porter.weights import writer
from porter.weights.mapping import Mapping

Progress = Callable[..., None]


def write_handover(
    source: Source, handover: Handover, folder: Path, dtype: str | None, progress: Progress
) -> list[str]:
    """Fills `folder` but for the proof; returns what the user should hear."""
    progress("matching modules")
    modules, notes = match_modules(source, handover.model, handover.recipes)
    writer.write(
        handover.recipes, handover.tensors, folder, dtype=dtype,
        progress=lambda name, done, total: progress("writing weights", done, total),
    )  # fmt: skip
    artifact.write_json(folder / artifact.CONFIG_FILE, handover.config)
    ignored = {
        key: "the source has no place for it" for key in handover.dropped if key in source.unused
    }
    mapping = Mapping(source.spec, handover.recipes, handover.config, ignored)
    mapping.save(folder / artifact.MAPPING_FILE)
    artifact.pass_through(folder, source.passthrough)
    options = {
        k: v for k, v in asdict(source.options).items() if v and k not in ("mapping", "dtype")
    }
    first = list(inspect.signature(type(handover.model).__call__).parameters)[1]
    ids = {"name": first, "dtype": "int32", "shape": ["batch", "length"], "permute": None}
    size = handover.config.get("vocab_size", "vocab_size")
    logits = {
        "name": "logits",
        "dtype": "float32",
        "shape": ["batch", "length", size],
        "permute": None,
    }
    facts = artifact.Facts(
        source.spec, source.sha256, "mlx-lm", (ids,), (logits,),
        {"verdict": "unproven", "options": options, "modules": modules},
    )  # fmt: skip
    artifact.write_facts(folder, facts)
    return notes
