"""Which checkpoint tensor each parameter and buffer of a module takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from porter.errors import InputError
from porter.sources.names import listed
from porter.weights.families import rename
from porter.weights.readers import Tensors, open_tensors

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True, slots=True)
class KeyMatch:
    """`keys` maps the module's names to checkpoint keys; `missing` have none, `unused` are left over."""

    keys: dict[str, str]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    notes: tuple[str, ...]


def open_checkpoint(path: Path, trust_pickle: bool) -> tuple[Tensors, tuple[Path, ...]]:
    """The tensors in a weight file or folder, and the files that hold them."""
    if not path.exists():
        raise InputError(f"{path} does not exist; check the path")
    tensors = open_tensors(path, trust_pickle)
    chosen = Path(getattr(tensors, "path", path))
    if chosen.name.endswith(".index.json"):
        shards = json.loads(chosen.read_text("utf-8"))[
            "weight_map"
        ].values()  # the reader has checked them
        return tensors, tuple(chosen.parent / shard for shard in sorted(set(shards)))
    return tensors, (chosen,)


def find_keys(
    tensors: Tensors, module: torch.nn.Module, known: Mapping[str, str] | None = None
) -> KeyMatch:
    """Matches the names of the module's state dict to the checkpoint's keys; `known` are matched already.

    Names of one tensor (tied weights) take the key of whichever of them the checkpoint has.  An integer buffer
    (a position index, a batch counter) may be missing or left over: it is computed when the module is built.
    """
    state = module.state_dict(keep_vars=True)
    available = list(tensors.keys())
    keys = dict(known or {})
    _share_tied(state, keys)
    if wanted := [name for name in state if name not in keys]:
        used = set(keys.values())
        keys |= rename([key for key in available if key not in used], wanted)
        _share_tied(state, keys)
    absent = [name for name in state if name not in keys]
    missing = tuple(name for name in absent if not _is_index(state[name]))
    used = set(keys.values())
    unused = tuple(key for key in available if key not in used)
    notes = (f"{len(unused)} checkpoint tensors are not used: {listed(unused)}",) if unused else ()
    return KeyMatch({name: keys[name] for name in state if name in keys}, missing, unused, notes)


def match_keys(
    tensors: Tensors, module: torch.nn.Module, what: str, strict: bool = False
) -> KeyMatch:
    """`find_keys`, and raises InputError when a tensor is missing or has another shape.

    With `strict`, so does a floating tensor that the module has no place for.
    """
    match = find_keys(tensors, module)
    if match.missing:
        raise InputError(
            f"{what}: {len(match.missing)} tensors are missing: {listed(match.missing)}; "
            f"the checkpoint has {listed(tensors.keys(), 4)}; check that it belongs to this model"
        )
    check_shapes(tensors, module, match.keys, what)
    if strict:
        left = [key for key in match.unused if "float" in tensors.spec(key).dtype]
        if left:
            raise InputError(
                f"{what}: the model has no place for {len(left)} tensors: {listed(left)}; "
                "check that the checkpoint belongs to this model"
            )
    return match


def check_shapes(
    tensors: Tensors, module: torch.nn.Module, keys: dict[str, str], what: str
) -> None:
    """Raises InputError naming every tensor whose shape is not the module's."""
    wrong = []
    for name, tensor in module.state_dict(keep_vars=True).items():
        if name in keys and (shape := tuple(tensors.spec(keys[name]).shape)) != tuple(tensor.shape):
            wrong.append(f"{keys[name]} is {list(shape)} and should be {list(tensor.shape)}")
    if wrong:
        raise InputError(
            f"{what}: {len(wrong)} tensors have another shape than the model's: {listed(wrong, 3)}; "
            "check that the checkpoint belongs to this model"
        )


def _share_tied(state: Mapping[str, torch.Tensor], keys: dict[str, str]) -> None:
    """Gives names that stand for one tensor object the key that one of them has."""
    owners: dict[int, str] = {id(state[name]): key for name, key in keys.items() if name in state}
    for name, tensor in state.items():
        if name not in keys and id(tensor) in owners:
            keys[name] = owners[id(tensor)]


def _is_index(tensor: torch.Tensor) -> bool:
    return (
        not isinstance(tensor, torch.nn.Parameter)
        and not tensor.is_floating_point()
        and not tensor.is_complex()
    )
