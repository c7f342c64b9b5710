"""A .pt2 file gives its program; one that could run code is refused before torch reads it."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from porter.errors import InputError, UsageError
from porter.sources import SourceOptions, resolve
from porter.sources.pt2_syntax import is_name, is_size_expression, is_target, is_tree


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(8, 4)
        self.register_buffer("shift", torch.ones(4))

    def forward(self, x, scale):
        flat = self.fc(x).reshape(x.shape[0] * x.shape[1] // 2, -1)
        return {"out": flat + self.shift.repeat(2), "scaled": x * scale}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    batch, half = torch.export.Dim("batch"), torch.export.Dim("half")
    program = torch.export.export(
        Net(),
        (torch.randn(2, 6, 8),),
        {"scale": torch.tensor(2.0)},
        dynamic_shapes={"x": {0: batch, 1: 2 * half}, "scale": None},
    )
    path = tmp_path_factory.mktemp("pt2") / "net.pt2"
    torch.export.save(program, path)
    return path


def rewrite(source: Path, target: Path, change) -> Path:
    """`source` with `change(name, content) -> content or None` applied to each entry, all stored."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            content = change(entry.filename, old.read(entry))
            if content is not None:
                new.writestr(entry.filename, content)
    return target


def edit_json(source: Path, target: Path, edit) -> Path:
    def change(name, content):
        if not name.endswith("models/model.json"):
            return content
        program = json.loads(content)
        edit(program)
        return json.dumps(program).encode()

    return rewrite(source, target, change)


def test_program(exported):
    source = resolve(str(exported))
    assert (source.kind, source.name) == ("pt2", "net")
    assert source.args[0].shape == (2, 6, 8)
    assert source.kwargs["scale"] == 2.0
    assert set(source.tensors.keys()) == {"fc.weight", "fc.bias", "shift"}
    expected = source.program.module()(*source.args, **source.kwargs)
    actual = source.materialize()(*source.args, **source.kwargs)
    assert torch.equal(actual["out"], expected["out"])
    assert len(source.sha256) == 64


def test_inputs(exported):
    source = resolve(str(exported), SourceOptions(inputs=("x=float32[3,4,8]",)))
    assert source.args[0].shape == (3, 4, 8)
    assert source.kwargs["scale"] == 2.0
    with pytest.raises(UsageError, match="it takes x, scale"):
        resolve(str(exported), SourceOptions(inputs=("y=float32[3]",)))
    with pytest.raises(UsageError, match="already exported"):
        resolve(str(exported), SourceOptions(dtype="float16"))


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("bomb-went-off"),))


def test_pickled_inputs_are_refused(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    torch.save(((Bomb(),), {}), buffer)

    def change(name, content):
        return buffer.getvalue() if "sample_inputs" in name else content

    bad = rewrite(exported, tmp_path / "bad.pt2", change)
    with pytest.raises(InputError, match=r"full unpickling.*--trust-pickle"):
        resolve(str(bad))
    assert not Path("bomb-went-off").exists()


def test_pickled_constants_are_refused(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = {"config": {"obj": {"path_name": "opaque_obj_0", "use_pickle": True}}}

    def change(name, content):
        return json.dumps(config).encode() if "constants_config" in name else content

    bad = rewrite(exported, tmp_path / "bad.pt2", change)
    with zipfile.ZipFile(bad, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/data/constants/opaque_obj_0", pickle.dumps(Bomb()))
    with pytest.raises(InputError, match="pickled object"):
        resolve(str(bad))
    assert not Path("bomb-went-off").exists()


@pytest.mark.parametrize("name", ["data/aotinductor/model/a.so", "data/weights/model.pt"])
def test_entries_that_run_are_refused(name, exported, tmp_path):
    bad = rewrite(exported, tmp_path / "bad.pt2", lambda _, content: content)
    with zipfile.ZipFile(bad, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/{name}", b"x")
    with pytest.raises(InputError, match="may run code"):
        resolve(str(bad))


EVIL = "__import__('pathlib').Path('bomb-went-off').touch()"


def set_size(program):
    values = program["graph_module"]["graph"]["tensor_values"]
    values["x"]["sizes"][0]["as_expr"]["expr_str"] = EVIL


def set_target(program):
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.system"


def set_name(program):
    program["graph_module"]["graph"]["inputs"][0]["as_tensor"]["name"] = f"x={EVIL}"


def set_tree(program):
    signature = program["graph_module"]["module_call_graph"][0]["signature"]
    context = {"default_factory_module": "antigravity", "default_factory_name": "x"}
    tree = {"type": "collections.defaultdict", "context": context, "children_spec": []}
    signature["out_spec"] = json.dumps([1, tree])


def set_range(program):
    program["range_constraints"][EVIL] = {"min_val": 0, "max_val": None}


@pytest.mark.parametrize("edit", [set_size, set_target, set_name, set_tree, set_range])
def test_programs_that_run_code_are_refused(edit, exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad = edit_json(exported, tmp_path / "bad.pt2", edit)
    with pytest.raises(InputError, match="may run code"):
        resolve(str(bad))
    assert not Path("bomb-went-off").exists()


def test_an_edit_that_changes_nothing_is_read(exported, tmp_path):
    assert resolve(str(edit_json(exported, tmp_path / "same.pt2", lambda _: None))).program


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"{}", b"\x80\x04."])
def test_damaged_file(content, tmp_path):
    (tmp_path / "bad.pt2").write_bytes(content)
    with pytest.raises(InputError, match="damaged") as caught:
        resolve(str(tmp_path / "bad.pt2"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s77', positive=True, integer=True)",
        "Mul(Integer(2), Min(Integer(4), Symbol('s81', positive=True, integer=True)))",
        "2*s81",
        "s0**2 + 3",
        "Pow(Symbol('s0'), Integer(-1))",
        "Eq(Mod(u0, 2), 0)",
    ],
)
def test_size_expressions(text):
    assert is_size_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        EVIL,
        "sympify('x')",
        "Symbol.__class__",
        "(lambda: 1)()",
        "[x for x in y]",
        "9**9**9**9",
        "(9**9)**9",
        "Pow(Integer(9), Integer(999999999))",
        "LShift(1, 99999999)",
        "Symbol(__class__)",
        "Symbol(*s0)",
        "f's0'",
        "(" * 500,
    ],
)
def test_hostile_size_expressions(text):
    assert not is_size_expression(text)


def test_other_syntax():
    assert is_target("torch.ops.aten.add.Tensor")
    assert is_target("torch.ops.aten.__and__.Tensor")
    assert is_target("_operator.mul")
    assert is_target("torch.sym_max")
    for text in ("torch.load", "torch.ops.load_library", "torch.ops.load_library.x", "os.system"):
        assert not is_target(text)
    assert not is_target("torch.ops.aten.__class__")
    assert not is_target("_operator.attrgetter")
    assert is_name("layers.0.weight")
    assert not is_name("x; import os")
    assert is_tree('[1, {"type": null, "context": null, "children_spec": []}]')
    assert not is_tree('[1, {"type": "os.system", "context": null, "children_spec": []}]')
