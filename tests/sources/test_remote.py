"""Sources elsewhere, without a network."""

import pytest
import torch
from safetensors.torch import save_file

from porter.errors import InputError, MachineError, UsageError
from porter.sources import SourceOptions, resolve


def test_fsspec(tmp_path):
    import fsspec

    save_file({"a": torch.ones(2)}, tmp_path / "net.safetensors")
    files = fsspec.filesystem("memory")
    files.pipe("/models/net.safetensors", (tmp_path / "net.safetensors").read_bytes())
    source = resolve("memory://models/net.safetensors", SourceOptions(mapping="m.toml"))
    assert source.spec == "memory://models/net.safetensors"
    assert list(source.tensors.keys()) == ["a"]
    with pytest.raises(InputError, match="does not exist"):
        resolve("memory://models/other.safetensors")


def test_unknown_scheme():
    with pytest.raises(UsageError, match="nosuch"):
        resolve("nosuch://models/net")


@pytest.mark.parametrize("address", ["hf://", "hf://org", "hf://org/repo/more", "hf://../x y"])
def test_no_repository(address):
    with pytest.raises(UsageError, match="hf://ORG/REPO"):
        resolve(address)


def test_offline(monkeypatch, tmp_path):
    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(huggingface_hub, "list_repo_files", unreachable)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(MachineError, match=r"no route to host.*hf download org/repo") as caught:
        resolve("hf://org/repo")
    assert "\n" not in str(caught.value)
