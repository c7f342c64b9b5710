"""The graph route's decoders against mlx-lm's own files: logits, tokens a second, lines.

    python -m benchmarks.zoo.against_mlx_lm -o FOLDER [TYPE ...]

For each type that both transformers and mlx-lm have, one random checkpoint is ported twice: by its graph, and into the file of
mlx-lm. Both modules read the same prompt and then decode the same tokens; the two sides take each step in turn
(A B, then B A), and a figure is the median over the steps, so that a machine's other work strikes both alike. Types that are in
FOLDER/against_mlx_lm.jsonl already are not run again; the table goes to stdout.
"""

from __future__ import annotations

import gc
import importlib.util
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from benchmarks.zoo.mlx_lm import Record, relative_rms, run_types

PROMPT, STEPS, PREFILLS = 512, 128, 3
#: Agreement of the two modules' logits, relative RMS in float32.
TOLERANCE = 1e-4


def measure(kind: str) -> Record:
    """One type, in a process of its own."""
    import torch
    from mlx_lm.utils import MODEL_REMAPPING

    from porter.convert import convert
    from porter.loading import load

    with tempfile.TemporaryDirectory() as folder:
        source, sides = Path(folder) / "source", {}
        parameters = _save(kind, source)
        for route in ("graph", "mlx-lm"):
            try:
                convert(str(source), Path(folder) / route, route=route, proof=False)
            except Exception as error:
                raise RuntimeError(f"route {route}: {error}") from error
            sides[route] = load(Path(folder) / route)
        emitted = (Path(folder) / "graph" / "model.py").read_text("utf-8")
    vocabulary = 100
    ids = mx.array(torch.randint(3, vocabulary, (1, PROMPT + STEPS)).numpy())
    own, theirs = sides["graph"], sides["mlx-lm"]
    whole = [np.array(side(ids[:, :64]).astype(mx.float32)) for side in (own, theirs)]
    gap = relative_rms(*whole)
    file = importlib.util.find_spec(f"mlx_lm.models.{MODEL_REMAPPING.get(kind, kind)}")
    assert file is not None
    assert file.origin is not None
    return {
        "type": kind, "parameters": parameters, "gap": gap, "equal": gap <= TOLERANCE,
        "lines": _code_lines(emitted), "their_lines": _code_lines(Path(file.origin).read_text("utf-8")),
        **_speed(own, theirs, ids),
    }  # fmt: skip


def _save(kind: str, folder: Path) -> int:
    """A random checkpoint big enough that a step is arithmetic and not Python; the number of its parameters."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    from benchmarks.zoo.small_configs import Scale, scaled

    torch.manual_seed(0)
    most = ValueError("every scale is too large")
    for width in (4, 8, 16):
        config = scaled(
            CONFIG_MAPPING[kind],
            Scale(width, layers=4),
            {"max_position_embeddings": PROMPT + STEPS},
        )
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(config)
        count = sum(p.numel() for p in empty.parameters())
        if count <= 300_000_000:
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
            return count
    raise most


def _code_lines(text: str) -> int:
    """Lines with code or docstring; licences and blank lines are nobody's merit."""
    return sum(bool(line.strip()) and not line.startswith("#") for line in text.splitlines())


def _speed(own: Any, theirs: Any, ids: mx.array) -> Record:
    """Medians of a prefill and a decoding step in milliseconds, and the ratio of their tokens a second, ours over theirs."""
    from mlx_lm.models.cache import make_prompt_cache

    sides = [own, theirs]
    prefills: list[list[float]] = [[], []]
    steps: list[list[float]] = [[], []]
    caches: list[Any] = []
    for turn in range(PREFILLS):
        caches = [make_prompt_cache(side) for side in sides]
        for k in (0, 1) if turn % 2 else (1, 0):
            prefills[k].append(_timed(sides[k], ids[:, :PROMPT], caches[k]))
    gc.disable()
    for step in range(STEPS):
        token = ids[:, PROMPT + step : PROMPT + step + 1]
        for k in (0, 1) if step % 2 else (1, 0):
            steps[k].append(_timed(sides[k], token, caches[k]))
    gc.enable()
    pairs = [b / a for a, b in zip(*steps, strict=True)][8:]  # the first steps compile
    return {
        "prefill_ms": [1e3 * min(times) for times in prefills],
        "step_ms": [1e3 * statistics.median(times[8:]) for times in steps],
        "ratio": statistics.median(pairs),
    }


def _timed(model: Any, ids: mx.array, cache: list[Any]) -> float:
    started = time.perf_counter()
    mx.eval(model(ids, cache=cache)[:, -1])
    return time.perf_counter() - started


def table(records: list[Record]) -> str:
    """Markdown: a row for each type."""
    ran = [r for r in records if "failed" not in r]
    lines = [
        f"{sum(r['equal'] for r in ran)} of {len(ran)} equal in logits, "
        f"{sum(r['ratio'] >= 0.98 for r in ran)} at no less than 0.98 of mlx-lm's tokens a second, "
        f"{sum(r['lines'] <= 1.3 * r['their_lines'] for r in ran)} with no more than 1.3 times its lines.",
        "",
        "| type | parameters, M | logits | lines, mlx-lm's | step ms, mlx-lm's | tokens a second, of mlx-lm's |",
        "|---|---|---|---|---|---|",
    ]
    for r in records:
        if "failed" in r:
            lines.append(f"| {r['type']} | | not run: {r['failed'][:120]} | | | |")
            continue
        logits = "equal" if r["equal"] else f"off by {r['gap']:.0e}"
        step = " / ".join(f"{ms:.2f}" for ms in r["step_ms"])
        lines.append(
            f"| {r['type']} | {r['parameters'] / 1e6:.0f} | {logits} | {r['lines']} / {r['their_lines']} | {step} "
            f"| {r['ratio']:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run_types(__doc__, "against_mlx_lm.jsonl", measure, table)
