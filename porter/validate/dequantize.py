"""The weights that a quantized port really has, for the reference to run with. MLX only.

`python -m porter.validate.dequantize job.json` writes an npz: name of the source's tensor -> float32
values, for each quantized layer that stands for one layer of the source.
"""

from __future__ import annotations

import sys
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from porter import artifact
from porter.validate.data import Job
from porter.validate.protocol import Channel, run_child

QUANTIZED = (nn.QuantizedLinear, nn.QuantizedEmbedding)


def main(channel: Channel) -> None:
    job = Job.read(sys.argv[1])
    sources = {e["path"]: e.get("source") for e in job.entries if e.get("leaf")}
    found: dict[str, Any] = {}
    for path, module in artifact.load(job.directory).named_modules():
        if isinstance(module, QUANTIZED) and sources.get(path):
            weight = mx.dequantize(
                module["weight"], module["scales"], module.get("biases"),
                group_size=module.group_size, bits=module.bits, mode=module.mode,
            )  # fmt: skip
            found[f"{sources[path]}.weight"] = np.array(weight.astype(mx.float32))
    np.savez(job.dequantized, **found)
    channel.send({"ready": True})


if __name__ == "__main__":
    run_child(main)
