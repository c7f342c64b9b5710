"""Which file of a folder is opened, shards and their index, other formats, and in-memory modules."""

import json
import subprocess
import sys
import tarfile

import mlx.core as mx
import pytest
import torch
from safetensors.torch import save_file

from porter.errors import InputError
from porter.weights.readers import ModuleTensors, ShardedTensors, TensorSpec, open_tensors


def write_index(folder, weight_map, name="model.safetensors.index.json"):
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_sharded_safetensors(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "m-1.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "m-2.safetensors")
    write_index(tmp_path, {"a": "m-1.safetensors", "b": "m-2.safetensors"})
    for path in (tmp_path, tmp_path / "model.safetensors.index.json"):
        tensors = open_tensors(path)
        assert isinstance(tensors, ShardedTensors)
        assert list(tensors.keys()) == ["a", "b"]
        assert tensors.spec("b") == TensorSpec("float32", (3,))
        assert tensors.read("a").tolist() == [1, 1]
        tensors.close()


def test_sharded_bin(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "p-1.bin")
    torch.save({"b": torch.ones(1).bfloat16()}, tmp_path / "p-2.bin")
    write_index(tmp_path, {"a": "p-1.bin", "b": "p-2.bin"}, "pytorch_model.bin.index.json")
    tensors = open_tensors(tmp_path)
    assert tensors.read("a").tolist() == [1, 1]
    assert tensors.read("b").dtype == mx.bfloat16


@pytest.mark.parametrize(
    "shard",
    [
        "../out.safetensors",
        "/etc/passwd",
        "link.safetensors",
        "a/../../out.safetensors",
        "..\\x",
        "a\0b",
    ],
)
def test_shard_outside_the_folder_is_refused(tmp_path, shard):
    folder = tmp_path / "in"
    folder.mkdir()
    save_file({"a": torch.ones(2)}, tmp_path / "out.safetensors")
    (folder / "link.safetensors").symlink_to(tmp_path / "out.safetensors")
    with pytest.raises(InputError, match="outside the folder"):
        open_tensors(write_index(folder, {"a": shard}))


def test_links_of_a_hugging_face_cache_are_followed(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    save_file({"a": torch.ones(2)}, blobs / "hash")
    (snapshot / "m-1.safetensors").symlink_to("../../blobs/hash")
    assert open_tensors(write_index(snapshot, {"a": "m-1.safetensors"})).read("a").tolist() == [
        1,
        1,
    ]


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ('{"weight_map": {"a": "gone.safetensors"}}', "lacks the shard 'gone.safetensors'"),
        ('{"weight_map": {"a": "."}}', "lacks the shard"),
        ('{"weight_map": {"a": 3}}', "not a file name"),
        ('{"weight_map": []}', "not an index"),
        ("{}", "not an index"),
        ("[", "not an index"),
        ("[" * 100_000, "not an index"),
    ],
)
def test_damaged_index(tmp_path, index, reason):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match=reason):
        open_tensors(tmp_path)


def test_shard_that_lacks_its_tensor(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="does not hold it"):
        open_tensors(write_index(tmp_path, {"b": "m.safetensors"})).spec("b")


def test_choice_in_a_folder(tmp_path):
    with pytest.raises(InputError, match="holds no"):
        open_tensors(tmp_path)
    torch.save({"bin": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    assert list(open_tensors(tmp_path).keys()) == ["bin"]
    save_file({"safe": torch.ones(1)}, tmp_path / "model.safetensors")
    assert list(open_tensors(tmp_path).keys()) == ["safe"]


def test_two_unnamed_files_are_ambiguous(tmp_path):
    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    assert list(open_tensors(tmp_path).keys()) == ["x"]
    save_file({"y": torch.ones(1)}, tmp_path / "y.safetensors")
    with pytest.raises(InputError, match=r"several checkpoints \(x.safetensors, y.safetensors\)"):
        open_tensors(tmp_path)


def test_content_decides_not_the_suffix(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "a.bin")
    torch.save({"b": torch.ones(1)}, tmp_path / "b.safetensors")
    assert list(open_tensors(tmp_path / "a.bin").keys()) == ["a"]
    assert list(open_tensors(tmp_path / "b.safetensors").keys()) == ["b"]


def test_legacy_formats_need_trust(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.arange(3)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"old format.*--trust-pickle"):
        open_tensors(path)
    assert open_tensors(path, trust_pickle=True).read("a").tolist() == [0, 1, 2]
    with tarfile.open(tmp_path / "b.pt", "w") as tar:
        tar.add(path, "pickle")
    with pytest.raises(InputError, match="old format"):
        open_tensors(tmp_path / "b.pt")


@pytest.mark.parametrize(
    "content", [b"", b"x", b"GGUF\x03\0\0\0", b"<html>not found</html>", bytes(64)]
)
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_wrong_magic(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError):
        open_tensors(tmp_path / name)


def test_zip_that_is_no_checkpoint(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("readme", "x")
    with pytest.raises(InputError, match="not a torch checkpoint"):
        open_tensors(tmp_path / "a.pt")


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_tensors(tmp_path / "none.pt")


def test_module_tensors():
    net = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3)).bfloat16()
    tensors = ModuleTensors(net.state_dict())
    assert list(tensors.keys()) == list(net.state_dict())
    assert tensors.spec("0.weight") == TensorSpec("bfloat16", (3, 2, 1, 1))
    assert tensors.read("1.num_batches_tracked").item() == 0
    assert tensors.read("0.weight").dtype == mx.bfloat16
    with pytest.raises(InputError, match="meta device"):
        ModuleTensors({"a": torch.ones(2, device="meta")}).read("a")
    with pytest.raises(InputError, match="complex128"):
        ModuleTensors({"a": torch.ones(2, dtype=torch.complex128)}).read("a")


def test_reading_needs_no_torch(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    code = (
        "import sys; sys.modules['torch'] = None; from porter.weights.readers import open_tensors;"
        "from porter.weights import recipes, writer, mapping, families;"
        f"assert open_tensors({str(tmp_path / 'a.pt')!r}).read('a').tolist() == [1, 1]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
