"""--input NAME=SPEC, in words and in files, and where the values go in a call."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from porter.errors import InputError, UsageError
from porter.sources.inputs import parse_inputs, place_inputs


class Net(torch.nn.Module):
    def forward(self, x, mask=None, *, scale=1.0):
        return x


def parse(*texts):
    return {example.name: example for example in parse_inputs(texts)}


def test_specs():
    found = parse("x=float32[batch=2,3,224,224]", "ids=int32[batch=2,length=16]", "t=bfloat16[]")
    assert found["x"].value.shape == (2, 3, 224, 224)
    assert found["x"].dims == {0: "batch"}
    assert abs(found["x"].value.std().item() - 1) < 0.01
    assert found["ids"].value.dtype == torch.int32
    assert found["ids"].dims == {0: "batch", 1: "length"}
    assert 0 <= found["ids"].value.min() <= found["ids"].value.max() < 8
    assert found["t"].value.shape == ()
    assert found["t"].value.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "complex64", "float64"])
def test_every_dtype(dtype):
    assert parse(f"x={dtype}[4]")["x"].value.dtype == getattr(torch, dtype)


def test_values_are_the_same_each_time():
    first, second = parse("x=float32[5]"), parse("x=float32[5]")
    assert torch.equal(first["x"].value, second["x"].value)
    other = parse_inputs(["x=float32[5]"], seed=1)[0]
    assert not torch.equal(first["x"].value, other.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "not NAME=SPEC"),
        ("", "not NAME=SPEC"),
        ("x=", "not NAME=SPEC"),
        ("2x=float32[2]", "not NAME=SPEC"),
        ("x=float32", "neither"),
        ("x=float32[2", "neither"),
        ("x=float32[2][3]", "neither"),
        ("x=flot32[2]", "did you mean float32"),
        ("x=object[2]", "no dtype"),
        ("x=float32[0]", "not a size"),
        ("x=float32[-1]", "not a size"),
        ("x=float32[2,]", "not a size"),
        ("x=float32[2.5]", "not a size"),
        ("x=float32[b=]", "not a size"),
        ("x=float32[1b=2]", "not a size"),
        ("x=float32[9999999999999]", "not a size"),
        ("x=float32[999999,999999]", "smaller"),
        ("x=float32[b=2,b=2]", "one name"),
        ("x=__import__('os')", "neither"),
        ("x=float32[\u0662]", "not a size"),
    ],
)
def test_bad_specs(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_inputs_that_contradict():
    with pytest.raises(UsageError, match="twice"):
        parse("x=float32[2]", "x=float32[2]")
    with pytest.raises(UsageError, match="'batch' is 3 here and 2"):
        parse("x=float32[batch=2]", "y=float32[batch=3]")


def test_files(tmp_path):
    array = np.arange(6, dtype=">f4").reshape(2, 3)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", x=array, other=np.zeros(1))
    save_file({"x": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "c.safetensors")
    assert parse(f"x={tmp_path}/a.npy")["x"].value.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert parse(f"x={tmp_path}/b.npz")["x"].value.shape == (2, 3)
    assert parse(f"y={tmp_path}/c.safetensors")["y"].value.dtype == torch.bfloat16
    with pytest.raises(InputError, match="holds other, x and not 'y'"):
        parse(f"y={tmp_path}/b.npz")


def test_bad_files(tmp_path):
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "short.npy", np.zeros(100))
    content = (tmp_path / "short.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(content[:-8])
    for name in ("damaged.npy", "damaged.npz", "damaged.safetensors"):
        (tmp_path / name).write_bytes(b"no such thing")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(InputError, match="cannot be read"):
            parse(f"x={path}")
    with pytest.raises(InputError, match="does not exist"):
        parse("x=missing.npy")


def test_placing():
    net, x, mask = Net(), torch.ones(1), torch.zeros(1)
    given = parse("x=float32[3]", "mask=bool[3]")
    args, kwargs = place_inputs(net, (), {}, list(given.values()))
    assert [value.shape for value in args] == [(3,), (3,)]
    assert kwargs == {}
    args, kwargs = place_inputs(net, (x,), {"mask": mask}, [given["x"]])
    assert args[0].shape == (3,)
    assert kwargs == {"mask": mask}
    args, kwargs = place_inputs(net, (), {}, [given["mask"]])
    assert args == ()
    assert list(kwargs) == ["mask"]
    with pytest.raises(UsageError, match=r"no such argument .did you mean mask"):
        place_inputs(net, (x,), {}, parse("mas=bool[3]").values())
