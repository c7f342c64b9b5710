"""Gives the reference's module the weights that a quantized port really has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from porter.validate.data import Job
from porter.weights.mapping import Mapping as Recipes
from porter.weights.rearranged import scatter


def put(state: Mapping[str, torch.Tensor], keys: Mapping[str, str], job: Job) -> list[str]:
    """Overwrites the tensors of a state dict; returns the port's tensors for which it has no place.

    keys: the module's names -> checkpoint keys. A recipe says where an element comes from, so a tensor of which
    only a part is quantized (the queries of a fused qkv) keeps the rest.
    """
    table = Recipes.load(Path(job.directory) / "mapping.toml").tensors
    by_key = {keys.get(name, name): tensor for name, tensor in state.items()}
    shapes = {key: tuple(tensor.shape) for key, tensor in by_key.items()}
    left = []
    with np.load(job.dequantized, allow_pickle=False) as weights:
        for path in weights.files:
            places = scatter(table[path], weights[path], shapes) if path in table else None
            if places is None:
                left.append(path)
                continue
            for key, (positions, values) in places.items():
                flat = by_key[key].reshape(-1).clone()
                flat[torch.from_numpy(positions)] = torch.from_numpy(values)
                by_key[key].copy_(flat.reshape(by_key[key].shape))
    return left
