"""Opens a checkpoint, whatever its format, by its content."""

from __future__ import annotations

from pathlib import Path

from porter.errors import InputError
from porter.weights.files import FileBytes
from porter.weights.modules import ModuleTensors, load_with_torch
from porter.weights.safetensors_file import SafetensorsFile
from porter.weights.sharded import ShardedTensors
from porter.weights.tensors import Tensors, TensorSpec
from porter.weights.torch_archive import TorchArchive

__all__ = [
    "ModuleTensors",
    "SafetensorsFile",
    "ShardedTensors",
    "TensorSpec",
    "Tensors",
    "TorchArchive",
    "open_tensors",
]

# In a folder, the first of these that is there.
INDEXES = (
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.bin.index.json",
)
SINGLES = (
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "adapter_model.safetensors",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
)


def open_tensors(path: str | Path, trust_pickle: bool = False) -> Tensors:
    """The tensors of a file or folder, not yet read.

    path: a safetensors file, a file of torch.save, an index file, or a folder that holds such.
    trust_pickle: let torch unpickle what porter's own reader refuses; that runs the file's code.
    Raises InputError when the file is missing, damaged, hostile or of another kind.
    """
    path = Path(path)
    if path.is_dir():
        path = _choose(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file: check the path.")
    if path.name.endswith(".index.json"):
        return ShardedTensors(path, lambda shard: _open_file(shard, trust_pickle))
    return _open_file(path, trust_pickle)


def _choose(folder: Path) -> Path:
    """The file that stands for a checkpoint's folder: an index before a single file, safetensors before pickle."""
    for name in (*INDEXES[:2], *SINGLES[:3], *INDEXES[2:], *SINGLES[3:]):
        if (folder / name).is_file():
            return folder / name
    for pattern in ("*.safetensors", "*.bin", "*.pt", "*.pth"):
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(file.name for file in found[:5])
            raise InputError(
                f"{folder} holds several checkpoints ({names}) and no index: name one."
            )
    raise InputError(f"{folder} holds no .safetensors, .bin, .pt or .pth file: check the path.")


def _open_file(path: Path, trust_pickle: bool) -> Tensors:
    data = FileBytes(path)
    try:
        head = data.read(0, min(data.size, 16)).tobytes()
    finally:
        data.close()
    if head.startswith(b"PK\x03\x04"):
        return _open_archive(path, trust_pickle)
    if len(head) > 8 and head[8:9] == b"{":
        return SafetensorsFile(path)
    if head[:1] == b"\x80" or _is_tar(path):
        if trust_pickle:
            return load_with_torch(path)
        raise InputError(
            f"{path} is in torch's old format, a bare pickle, which porter does not run: save it again with a "
            "current torch, or pass --trust-pickle if you trust whoever made it."
        )
    if path.suffix == ".safetensors":
        return SafetensorsFile(path)  # says what is wrong with it
    raise InputError(
        f"{path} is neither safetensors nor a file of torch.save (it starts with {head[:8]!r}): check the file."
    )


def _open_archive(path: Path, trust_pickle: bool) -> Tensors:
    try:
        return TorchArchive(path)
    except InputError:
        if not trust_pickle:
            raise
        return load_with_torch(path)


def _is_tar(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(257)
        return file.read(5) == b"ustar"
