"""Hashes of weights: the same tensors give the same 64 digits in every process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

_CHUNK = 1 << 22


def hash_files(paths: Iterable[Path]) -> str:
    """SHA-256 of one file's content, or of the names and hashes of several."""
    digests = sorted((path.name, _hash_file(path)) for path in paths)
    if len(digests) == 1:
        return digests[0][1]
    return hashlib.sha256(
        "".join(f"{name}\0{digest}\n" for name, digest in digests).encode()
    ).hexdigest()


def hash_state(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of the names, dtypes, shapes and bytes of `state`, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        if tensor.numel() and tensor.device.type != "meta":
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
