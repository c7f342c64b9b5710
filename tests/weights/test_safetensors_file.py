"""Own safetensors reader: against the reference implementation, and against damaged and hostile files."""

import json
import re

import mlx.core as mx
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from porter.errors import InputError
from porter.weights.readers import SafetensorsFile, TensorSpec, open_tensors

STATE = {
    "f32": torch.randn(3, 4),
    "bf16": torch.randn(5).bfloat16(),
    "f16": torch.randn(2, 1).half(),
    "f64": torch.randn(2, dtype=torch.float64),
    "i64": torch.tensor([-(2**40), 7]),
    "u8": torch.tensor([0, 255], dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "fp8": torch.tensor([1.5, -2.0]).to(torch.float8_e4m3fn),
    'naïve "key"\n😀': torch.ones(1),
}


def raw_file(path, header, data=b""):
    """A file with this header (bytes, or what becomes JSON)."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(begin, end, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_reads_what_the_reference_wrote(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors", metadata={"format": "pt"})
    tensors = open_tensors(tmp_path / "a.safetensors")
    assert isinstance(tensors, SafetensorsFile)
    assert tensors.metadata == {"format": "pt"}
    assert set(tensors.keys()) == set(STATE)
    assert tensors.spec("bf16") == TensorSpec("bfloat16", (5,))
    assert tensors.spec("fp8") == TensorSpec("float8_e4m3fn", (2,))
    for key, tensor in STATE.items():
        array = tensors.read(key)
        wanted = tensor.view(torch.uint8) if key == "fp8" else tensor
        assert array.shape == tuple(tensor.shape)
        assert np.array_equal(
            np.array(array.astype(mx.float32, stream=mx.cpu)), wanted.float().numpy()
        )
    assert tensors.read("f64").dtype == mx.float64
    assert tensors.read("i64").tolist() == [-(2**40), 7]
    tensors.close()


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        ({"a": entry(0, 4), "b": entry(0, 4)}, bytes(4), "overlaps"),
        ({"a": entry(0, 4), "b": entry(2, 6)}, bytes(6), "overlaps"),
        ({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12), "hole"),
        ({"a": entry(0, 4)}, bytes(2), "end at byte"),
        ({"a": entry(0, 4)}, bytes(8), "end at byte"),
        ({"a": entry(0, 8)}, bytes(8), "takes 8 bytes"),
        ({"a": entry(-4, 0)}, b"", "not whole numbers"),
        ({"a": entry(0, 4, [True])}, bytes(4), "not whole numbers"),
        ({"a": entry(0, 4, [1.0])}, bytes(4), "not whole numbers"),
        ({"a": entry(0, 0, [2**62, 0])}, b"", "larger than any"),
        ({"a": entry(0, 4, [1] * 40)}, bytes(4), "larger than any"),
        ({"a": entry(0, 4, dtype="X9")}, bytes(4), "element type 'X9'"),
        ({"a": entry(0, 4, dtype=["F32"])}, bytes(4), "element type"),
        ({"a": {"dtype": "F32"}}, b"", "not complete"),
        ({"a": 3}, b"", "not complete"),
        ({"__metadata__": {"x": 1}}, b"", "__metadata__"),
        ([1, 2], b"", "not a JSON object"),
        (b'{"a": 1, "a": 2}', b"", "occurs twice"),
        (b'{"\\ud800": 1}', b"", "Unicode"),
        (b"{" + b'"a":{' * 100_000, b"", "not proper JSON"),
        (b"{\xff}", b"", "not proper JSON"),
    ],
)
def test_refuses_damaged_headers(tmp_path, header, data, reason):
    path = raw_file(tmp_path / "a.safetensors", header, data)
    with pytest.raises(InputError, match=re.escape(reason)):
        open_tensors(path)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**9, 1000])
def test_refuses_huge_header_length(tmp_path, length):
    path = tmp_path / "a.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(InputError, match="claims a header"):
        open_tensors(path)


def test_every_truncation_is_refused(tmp_path):
    save_file({"a": torch.ones(3), "b": torch.ones(2, 2)}, tmp_path / "a.safetensors")
    whole = (tmp_path / "a.safetensors").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "b.safetensors").write_bytes(whole[:length])
        with pytest.raises(InputError):
            open_tensors(tmp_path / "b.safetensors")


def test_file_that_shrinks_after_it_was_opened(tmp_path):
    save_file({"a": torch.ones(100_000)}, tmp_path / "a.safetensors")
    tensors = open_tensors(tmp_path / "a.safetensors")
    with (tmp_path / "a.safetensors").open("r+b") as file:
        file.truncate(500)
    with pytest.raises(InputError, match="shorter"):
        tensors.read("a")


def test_unknown_key_is_named(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    tensors = open_tensors(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="'nope'"):
        tensors.spec("nope")
