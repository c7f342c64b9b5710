"""A checkpoint in several files with an index (model.safetensors.index.json, pytorch_model.bin.index.json)."""

from __future__ import annotations

import json
from collections.abc import Callable, KeysView
from pathlib import Path, PurePosixPath

import mlx.core as mx

from porter.errors import InputError
from porter.weights.files import damaged
from porter.weights.tensors import Tensors, TensorSpec


class ShardedTensors:
    """The tensors that an index names, each read from its shard; a shard is opened when first used."""

    def __init__(self, index: Path, open_shard: Callable[[Path], Tensors]) -> None:
        self.path = index
        self._shard_of = _weight_map(index)
        self._files = {
            shard: shard_path(index.parent, shard) for shard in set(self._shard_of.values())
        }
        self._open_shard = open_shard
        self._open: dict[str, Tensors] = {}

    def keys(self) -> KeysView[str]:
        return self._shard_of.keys()

    def spec(self, key: str) -> TensorSpec:
        return self._shard(key).spec(key)

    def read(self, key: str) -> mx.array:
        return self._shard(key).read(key)

    def close(self) -> None:
        for tensors in self._open.values():
            tensors.close()
        self._open.clear()

    def _shard(self, key: str) -> Tensors:
        if key not in self._shard_of:
            raise InputError(f"{self.path} has no tensor {key!r}: check the name.")
        shard = self._shard_of[key]
        if shard not in self._open:
            self._open[shard] = self._open_shard(self._files[shard])
        if key not in self._open[shard].keys():  # noqa: SIM118 (Tensors is no dict)
            raise damaged(self.path, f"it places {key!r} in {shard}, which does not hold it")
        return self._open[shard]


def shard_path(folder: Path, name: str) -> Path:
    """The file `name` in `folder`; InputError when it lies elsewhere or is not there.

    A Hugging Face cache links snapshots/REVISION/FILE to blobs/HASH beside it: such links are followed.
    """
    outside = InputError(
        f"{folder} has an index that names a shard outside the folder, {name!r}: "
        "get the checkpoint from a source that you trust."
    )
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        raise outside
    root, target = folder.resolve(), (folder / pure).resolve()
    blobs = root.parent.parent / "blobs" if root.parent.name == "snapshots" else root
    if not target.is_relative_to(root) and target.parent != blobs:
        raise outside
    if not target.is_file():
        raise InputError(f"{folder} lacks the shard {name!r} that its index names: fetch it.")
    return folder / pure


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor name to shard name, as the index has it."""
    try:
        content = json.loads(index.read_text("utf-8"))
        weight_map = content["weight_map"]
        pairs = dict(weight_map.items())
    except OSError as error:
        raise InputError(f"{index} cannot be read ({error.strerror}): check the path.") from error
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise damaged(index, f"it is not an index with a weight_map ({error})") from error
    for key, shard in pairs.items():
        if not isinstance(shard, str) or not shard:
            raise damaged(index, f"the shard of {key!r} is not a file name")
    return pairs
