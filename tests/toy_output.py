"""An output folder with a model of one layer, written without porter's converting anything."""

from pathlib import Path
from textwrap import dedent

import mlx.core as mx
import mlx.nn as nn

from porter.artifact import Facts, write_config, write_facts

MODEL = """
    from __future__ import annotations

    from dataclasses import dataclass

    import mlx.core as mx
    import mlx.nn as nn


    @dataclass
    class ModelArgs:
        width: int
        sizes: tuple[int, ...] = (1, 2)
        grid: tuple[tuple[int, int], ...] = ((0, 0),)
        names: list | None = None


    @dataclass
    class Output:
        logits: mx.array
        hidden: mx.array | None = None


    class Model(nn.Module):
        def __init__(self, args: ModelArgs):
            super().__init__()
            self.args = args
            self.layers = [nn.Linear(args.width, args.width)]
            self.drop = nn.Dropout(0.5)
            self._offset = mx.ones(args.width)

        def __call__(self, x, wrap=False):
            x = self.drop(self.layers[0](x) + self._offset)
            return Output(x) if wrap else x
"""
VALUE = {"name": "x", "dtype": "float32", "shape": ["batch", 64], "permute": None}
FACTS = Facts(
    "timm:x", "abc", "graph", (VALUE,), ({**VALUE, "permute": [1, 0]},), {"verdict": "pass"}
)


def fill(folder: Path, width: int = 64, quantized: bool = False, **config) -> dict:
    """A complete output in `folder`; its weights."""
    (folder / "model.py").write_text(dedent(MODEL))
    linear = nn.Linear(width, width)
    weights = {"layers.0.weight": linear.weight, "layers.0.bias": linear.bias}
    fields = {"width": width, "sizes": (3, 4), "grid": [[1, 2], [3, 4]], **config}
    if quantized:
        q, scales, biases = mx.quantize(linear.weight, 32, 8)
        weights |= {"layers.0.weight": q, "layers.0.scales": scales, "layers.0.biases": biases}
        fields["quantization"] = {"group_size": 32, "bits": 8, "mode": "affine"}
    write_config(folder, fields, "toy", {"architectures": ["Toy"], "width": 1, "model_type": "old"})
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    write_facts(folder, FACTS)
    return weights
