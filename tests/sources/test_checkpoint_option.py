"""--checkpoint for a built model, and weight files without a model."""

import pytest
import torch
from safetensors.torch import save_file

from porter.errors import InputError, UsageError
from porter.sources import SourceOptions, from_module, resolve
from porter.sources.fingerprint import hash_files


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(5, 3)
        self.head = torch.nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight
        self.norm = torch.nn.BatchNorm1d(5)
        self.register_buffer("steps", torch.arange(5), persistent=False)

    def forward(self, ids):
        return self.norm(self.head(self.embed(ids)))


def state(**changes):
    torch.manual_seed(3)
    found = {name: value.clone() for name, value in Tied().state_dict().items()}
    del found["head.weight"]
    return {name: value for name, value in (found | changes).items() if value is not None}


def source_of(path, **options):
    return from_module(
        Tied(), (torch.tensor([1, 2]),), options=SourceOptions(checkpoint=str(path), **options)
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".bin"])
def test_weights_are_loaded_when_asked_for(suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state(), path)
    source = source_of(path)
    assert source.keys["head.weight"] == source.keys["embed.weight"] == "embed.weight"
    module = source.materialize()
    assert module.head.weight is module.embed.weight
    for name, value in state().items():
        assert torch.equal(module.state_dict()[name], value)
    assert source.sha256 == hash_files([path])


def test_timm_checkpoint(tmp_path):
    import timm

    torch.manual_seed(9)
    model = timm.create_model("resnet18", pretrained=False).eval()
    save_file(
        {f"module.{name}": value for name, value in model.state_dict().items()},
        tmp_path / "w.safetensors",
    )
    source = resolve("timm:resnet18", SourceOptions(checkpoint=str(tmp_path / "w.safetensors")))
    assert source.keys["conv1.weight"] == "module.conv1.weight"
    with torch.no_grad():
        assert torch.equal(source.materialize()(*source.args), model(*source.args))


def test_integer_buffers_may_be_missing_or_left_over(tmp_path):
    path = tmp_path / "w.safetensors"
    counter = {"norm.num_batches_tracked": None, "position_ids": torch.arange(4)}
    save_file(state(**counter), path)
    source = source_of(path)
    assert source.unused == ("position_ids",)
    source.materialize()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm.weight": None}, r"1 tensors are missing: norm\.weight"),
        ({"extra.weight": torch.ones(2)}, r"no place for 1 tensors: extra\.weight"),
        ({"norm.weight": torch.ones(6)}, r"norm\.weight is \[6\] and should be \[5\]"),
    ],
)
def test_checkpoint_that_does_not_fit(changes, message, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(state(**changes), path)
    with pytest.raises(InputError, match=message):
        source_of(path)


def test_bad_checkpoint(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(InputError):
        source_of(tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="does not exist"):
        source_of(tmp_path / "missing.pt")


def test_bare_file(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(state(), path)
    with pytest.raises(UsageError, match=r"--checkpoint .* --mapping"):
        resolve(str(path))
    source = resolve(str(path), SourceOptions(mapping="mapping.toml"))
    assert (source.kind, source.name, source.module) == ("checkpoint", "net", None)
    assert set(source.tensors.keys()) == set(state())
    with pytest.raises(UsageError, match="no model"):
        source.materialize()
    with pytest.raises(UsageError, match="do nothing"):
        resolve(str(path), SourceOptions(mapping="m.toml", inputs=("x=float32[1]",)))


@pytest.mark.parametrize("spec", ["", "\0", "no/such/file.pt", "no-such-folder"])
def test_nothing_there(spec):
    with pytest.raises((UsageError, InputError)):
        resolve(spec)


def test_unknown_kind_of_file(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(InputError, match="no kind of file"):
        resolve(str(tmp_path / "a.txt"))
