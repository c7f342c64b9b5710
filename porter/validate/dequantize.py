"""The weights that a quantized port really has, for the reference to run with. MLX only.

`python -m porter.validate.dequantize job.json` writes an npz: path of the port's tensor -> float32
values, for each quantized layer.
"""

from __future__ import annotations

import sys
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from porter import loading
from porter.validate.data import Job
from porter.validate.protocol import Channel, run_child


def main(channel: Channel) -> None:
    job = Job.read(sys.argv[1])
    found: dict[str, Any] = {}
    for path, module in loading.load(job.directory).named_modules():
        own = dict(tree_flatten(module.parameters()))
        if not {"weight", "scales"} <= own.keys() or not hasattr(module, "bits"):
            continue
        # Products and sums in float32: what the port computes with, whatever dtype its scales are kept in.
        biases = _wide(own["biases"]) if "biases" in own else None
        weight = mx.dequantize(
            own["weight"], _wide(own["scales"]), biases, group_size=module.group_size, bits=module.bits, mode=module.mode,
            dtype=mx.float32,
        )  # fmt: skip
        found[f"{path}.weight"] = np.array(weight)
    np.savez(job.dequantized, **found)
    channel.send({"ready": True})


def _wide(value: mx.array) -> mx.array:
    return value.astype(mx.float32) if mx.issubdtype(value.dtype, mx.floating) else value


if __name__ == "__main__":
    run_child(main)
