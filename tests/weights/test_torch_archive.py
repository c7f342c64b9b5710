"""Zip checkpoints without torch: equal to torch for any view, and nothing of a hostile file is run."""

import io
import os
import pickle
import random
import zipfile
from collections import OrderedDict

import mlx.core as mx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from porter.errors import InputError
from porter.weights.readers import ModuleTensors, TorchArchive, open_tensors

DTYPES = [
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.int16,
    torch.int8, torch.uint8, torch.bool, torch.complex64, torch.uint16, torch.uint32, torch.float8_e5m2,
]  # fmt: skip


def save(path, value):
    torch.save(value, path)
    return path


def same(array: mx.array, tensor: torch.Tensor) -> bool:
    wanted = ModuleTensors({"x": tensor}).read("x")
    return (
        array.dtype == wanted.dtype
        and array.shape == wanted.shape
        and mx.array_equal(array, wanted).item()
    )


@st.composite
def views(draw):
    """A view of a base tensor: sliced, strided, permuted, or expanded."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    base = torch.arange(int(np.prod(shape)), dtype=torch.float32).reshape(shape)
    view = base.to(draw(st.sampled_from(DTYPES)))
    for axis, length in enumerate(shape):
        start = draw(st.integers(0, length))
        step = draw(st.integers(1, 3))
        view = view[(slice(None),) * axis + (slice(start, None, step),)]
    view = view.permute(draw(st.permutations(range(len(shape)))))
    return view.unsqueeze(0).expand(3, *view.shape) if draw(st.booleans()) else view


@settings(max_examples=60, deadline=None)
@given(views())
def test_any_view_equals_torch(tmp_path_factory, view):
    path = save(tmp_path_factory.mktemp("views") / "a.pt", {"x": view})
    tensors = open_tensors(path)
    assert isinstance(tensors, TorchArchive)
    assert same(tensors.read("x"), view)


def test_shared_storage_parameters_and_extra_content(tmp_path):
    base = torch.arange(12.0)
    state = OrderedDict(a=base[2:5], b=base.view(3, 4).T, p=torch.nn.Parameter(torch.randn(2)))
    state._metadata = OrderedDict(version=1)
    path = save(
        tmp_path / "a.ckpt", {"epoch": 3, "lr": 0.1, "state_dict": state, "opt": {"m": base}}
    )
    tensors = open_tensors(path)
    assert list(tensors.keys()) == ["a", "b", "p"]
    assert all(same(tensors.read(key), state[key].detach()) for key in state)
    tensors.close()


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        ({"module.a": 1, "module.b.c": 1}, ["a", "b.c"]),
        ({"module.module.a": 1}, ["a"]),
        ({"module.a": 1, "b": 1}, ["module.a", "b"]),
        ({"_orig_mod.a": 1, "l._orig_mod.b": 1}, ["a", "l.b"]),
        ({"module._orig_mod.a": 1}, ["a"]),
        ({"a": 1, "_orig_mod.a": 1}, ["a", "_orig_mod.a"]),
        ({"model": {"state_dict": {"a": 1}}, "step": None}, ["a"]),
        ({"model": {"a": 1}, "optimizer": {"b": 1}}, ["a"]),
        ({"encoder": {"a": 1}, "decoder": {"a": 1}}, ["encoder.a", "decoder.a"]),
        ({"model": {"a": 1}, "head": 1}, ["model.a", "head"]),
    ],
)
def test_names_of_nested_tables(tmp_path, value, keys):
    def fill(item):
        return (
            {k: fill(v) for k, v in item.items()}
            if isinstance(item, dict)
            else item and torch.ones(item)
        )

    assert list(open_tensors(save(tmp_path / "a.pt", fill(value))).keys()) == keys


def test_torchscript_gives_its_state_dict(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).eval()
    torch.jit.script(net).save(tmp_path / "a.pt")
    tensors = open_tensors(tmp_path / "a.pt")
    assert set(tensors.keys()) == set(net.state_dict())
    assert all(same(tensors.read(key), value) for key, value in net.state_dict().items())


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_hostile_pickle_is_refused_and_not_run(tmp_path):
    proof = tmp_path / "run"
    path = save(tmp_path / "a.pt", {"w": torch.ones(1), "x": Evil(os.system, f"touch {proof}")})
    with pytest.raises(InputError, match=r"posix\.system.*--trust-pickle"):
        open_tensors(path)
    assert not proof.exists()
    assert list(open_tensors(path, trust_pickle=True).keys()) == ["w"]
    assert proof.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x04\x8c\x08builtins\x8c\x0fgetattr.__self__\x93.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b.",  # BUILD on a function
        b"\x80\x02ctorch\nFloatStorage\n}X\x04\x00\x00\x00nameK\x01sb.",  # BUILD on a stand-in
        b"\x80\x02\x82\x01.",  # extension registry
        b"\x80\x02i__builtin__\neval\n.",
        b"\x80\x02c__torch__\nModule\n)\x81.",  # TorchScript classes, but no TorchScript archive
        b"\x80\x02}q\x00}q\x01X",
        b"\x80\x02.",
        b"\x80\x02}h\x09.",
        b"\x80\x02}}}s.",
        b"\x80\x02]}u.",
        b"garbage",
        b"",
    ],
)
def test_hostile_programs(tmp_path, program):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
    with pytest.raises(InputError):
        open_tensors(path)


def archive_with(path, identity, offset=0, shape=(2,), stride=(1,), data=bytes(8)):
    """A checkpoint of one tensor, whose storage and view are as given."""

    class View:
        def __reduce__(self):
            function = torch._utils._rebuild_tensor_v2
            return function, (Identity(), offset, shape, stride, False, OrderedDict())

    class Identity:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return identity if isinstance(value, Identity) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"x": View()})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        archive.writestr("archive/data/0", data)
    return path


STORAGE = ("storage", torch.FloatStorage, "0", "cpu", 2)


@pytest.mark.parametrize(
    ("identity", "view", "reason"),
    [
        (STORAGE, {"offset": 1}, "beyond its storage"),
        (STORAGE, {"offset": -1}, "negative"),
        (STORAGE, {"stride": (-1,)}, "negative"),
        (STORAGE, {"stride": (1, 1)}, "strides"),
        (STORAGE, {"stride": (2**62,)}, "beyond its storage"),
        (STORAGE, {"shape": (2**30, 2**30), "stride": (0, 0)}, "expanded"),
        (STORAGE, {"shape": (2**31,), "stride": (0,)}, "absurd"),
        (STORAGE, {"data": bytes(4)}, "shorter than it claims"),
        ((*STORAGE[:2], "../0", "cpu", 2), {}, "is missing"),
        ((*STORAGE[:4], -1), {}, "no proper size"),
        ((*STORAGE[:4], 2**40), {}, "shorter than it claims"),
        (("module", *STORAGE[1:]), {}, "not a storage"),
        (3, {}, "cannot be read"),
    ],
)
def test_hostile_views(tmp_path, identity, view, reason):
    path = archive_with(tmp_path / "a.pt", identity, **view)
    with pytest.raises(InputError, match=reason):
        open_tensors(path).read("x")


def test_big_endian_storage(tmp_path):
    path = archive_with(tmp_path / "a.pt", STORAGE, data=np.array([1.5, -2.0], ">f4").tobytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/byteorder", "big")
    assert open_tensors(path).read("x").tolist() == [1.5, -2.0]


def test_every_truncation_is_refused(tmp_path):
    whole = save(tmp_path / "a.pt", {"a": torch.ones(3)}).read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "b.pt").write_bytes(whole[:length])
        with pytest.raises(InputError):
            open_tensors(tmp_path / "b.pt")


def mutated(content: bytes, rng: random.Random) -> bytes:
    """`content` with up to four bytes changed, or pieces taken out or repeated."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, other = rng.randrange(len(changed)), rng.randrange(len(changed))
        match rng.randrange(3):
            case 0:
                changed[at] = rng.randrange(256)
            case 1:
                del changed[at : at + rng.randint(1, 4)]
            case 2:
                changed[at:at] = changed[other : other + rng.randint(1, 20)]
    return bytes(changed)


@pytest.mark.parametrize("part", ["pickle", "archive"])
def test_any_damage_is_an_input_error_or_harmless(tmp_path, part):
    state = OrderedDict(a=torch.randn(3, 4).T, b=torch.nn.Parameter(torch.ones(2).bfloat16()))
    whole = save(
        tmp_path / "a.pt", {"state_dict": state, "x": [1, 2.5, "x", (1,), {1}]}
    ).read_bytes()
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    rng = random.Random(0)
    for _ in range(400):
        if part == "archive":
            (tmp_path / "b.pt").write_bytes(mutated(whole, rng))
        else:
            with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:
                for name, content in members.items():
                    archive.writestr(
                        name, mutated(content, rng) if name.endswith(".pkl") else content
                    )
        try:
            tensors = open_tensors(tmp_path / "b.pt")
            for key in tensors.keys():  # noqa: SIM118
                tensors.read(key)
        except InputError:
            pass


def test_tables_that_hold_themselves(tmp_path):
    loop: dict = {"w": torch.ones(1)}
    loop["self"] = loop
    path = save(tmp_path / "a.pt", loop)
    assert list(open_tensors(path).keys())[:2] == ["w", "self.w"]
    wrapped: dict = {}
    wrapped["model"] = {"module": wrapped}
    with pytest.raises(InputError, match="no named tensors"):
        open_tensors(save(path, wrapped))
    many: dict = {"w": torch.ones(1)}
    for _ in range(30):
        many = {"a": many, "b": many}
    with pytest.raises(InputError, match="more entries than any model"):
        open_tensors(save(path, many))


def test_whole_module_is_refused_with_its_class(tmp_path):
    path = save(tmp_path / "a.pt", torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"torch\.nn\.modules\.linear\.Linear"):
        open_tensors(path)
    assert set(open_tensors(path, trust_pickle=True).keys()) == {"weight", "bias"}


@pytest.mark.parametrize("value", [{}, [torch.ones(1)], {"a": 1}, torch.ones(2)])
def test_no_named_tensors(tmp_path, value):
    with pytest.raises(InputError, match="no named tensors"):
        open_tensors(save(tmp_path / "a.pt", value))
