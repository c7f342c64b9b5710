"""Factories, timm, torchvision and modules: sources that are built here with real values."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from porter.errors import InputError, MachineError, UsageError
from porter.sources import SourceOptions, from_module, resolve

FACTORIES = """
import torch
import sibling_of_the_factory

class Net(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.fc = torch.nn.Linear(3, width)
        self.drop = torch.nn.Dropout()
    def forward(self, x, scale=1.0):
        return self.drop(self.fc(x)) * scale

def alone(): print("to stdout"); return Net()
def with_args(): return Net(), (torch.randn(2, 3),)
def with_kwargs(): return Net(5), (torch.randn(2, 3),), {"scale": 2.0}
def tensor_args(): return Net(), torch.randn(2, 3)
def wrong(): return 3
def wrong_tuple(): return Net(), 3
def raises(): raise ValueError("a reason\\nand more")
def exits(): raise SystemExit(0)
def needs(): import no_such_package_at_all
model = Net()
"""


@pytest.fixture
def factories(tmp_path):
    (tmp_path / "sibling_of_the_factory.py").write_text("")
    path = tmp_path / "factories.py"
    path.write_text(FACTORIES)
    yield path
    sys.path.remove(str(tmp_path))
    del sys.modules["sibling_of_the_factory"]


def test_factory(factories):
    source = resolve(f"{factories}:with_kwargs")
    assert (source.kind, source.name) == ("factory", "Net")
    assert source.args[0].shape == (2, 3)
    assert source.kwargs == {"scale": 2.0}
    assert not source.module.training
    assert source.constructors[""] == {"width": 5}
    assert source.constructors["fc"]["out_features"] == 5
    assert set(source.tensors.keys()) == {"fc.weight", "fc.bias"}
    assert source.materialize()(*source.args, **source.kwargs).shape == (2, 5)
    again = resolve(f"{factories}:with_kwargs")
    assert torch.equal(again.module.fc.weight, source.module.fc.weight)
    assert torch.equal(again.args[0], source.args[0])
    assert again.sha256 == source.sha256
    other = resolve(f"{factories}:with_kwargs", SourceOptions(seed=1))
    assert other.sha256 != source.sha256


def test_factory_leaves_global_random_state_and_stdout(factories, capsys):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    resolve(f"{factories}:alone", SourceOptions(inputs=("x=float32[2,3]",)))
    assert torch.equal(torch.rand(3), expected)
    assert capsys.readouterr().out == ""


def test_factory_inputs(factories):
    options = SourceOptions(inputs=("x=float32[batch=7,3]",))
    for name in ("alone", "with_args", "tensor_args"):
        source = resolve(f"{factories}:{name}", options)
        assert source.args[0].shape == (7, 3)
        assert source.dynamic == {"x": {0: "batch"}}
    with pytest.raises(UsageError, match="--input"):
        resolve(f"{factories}:alone")
    with pytest.raises(UsageError, match="takes x, scale"):
        resolve(f"{factories}:alone", SourceOptions(inputs=("y=float32[2,3]",)))


def test_dtype_reaches_module_and_inputs(factories):
    source = resolve(f"{factories}:with_args", SourceOptions(dtype="bfloat16"))
    assert source.module.fc.weight.dtype == source.args[0].dtype == torch.bfloat16
    with pytest.raises(UsageError, match="--dtype 'int8'"):
        resolve(f"{factories}:with_args", SourceOptions(dtype="int8"))


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("wrong", InputError, r"returned \(int\)"),
        ("wrong_tuple", InputError, r"returned \(Net, int\)"),
        ("raises", InputError, "raised ValueError: a reason;"),
        ("exits", InputError, "raised SystemExit"),
        ("needs", MachineError, "'no_such_package_at_all'"),
        ("model", InputError, "no function 'model'"),
        ("with_arg", InputError, "did you mean with_args"),
        ("not a name", UsageError, "does not name a factory"),
        ("", UsageError, "does not name a factory"),
    ],
)
def test_bad_factories(factories, name, error, message):
    try:
        with pytest.raises(error, match=message) as caught:
            resolve(f"{factories}:{name}")
        assert "\n" not in str(caught.value)
    finally:
        import importlib

        sys.path.append(str(factories.parent))
        importlib.import_module("sibling_of_the_factory")


def test_bad_files(tmp_path):
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "imports.py").write_text("import no_such_package_at_all\n")
    with pytest.raises(InputError, match="SyntaxError"):
        resolve(f"{tmp_path}/broken.py:f")
    with pytest.raises(MachineError, match="no_such_package_at_all"):
        resolve(f"{tmp_path}/imports.py:f")
    with pytest.raises(InputError, match="does not exist"):
        resolve(f"{tmp_path}/missing.py:f")
    with pytest.raises(UsageError, match="names no factory"):
        resolve(f"{tmp_path}/broken.py")
    assert not [name for name in sys.modules if name.startswith("porter_source_broken")]


def test_package_factory():
    options = SourceOptions(inputs=("input=float32[batch=2,4]",))
    assert resolve("torch.nn:Identity", options).kind == "factory"
    with pytest.raises(InputError, match="no Python module 'no_such_package'"):
        resolve("no_such_package.module:f")
    with pytest.raises(UsageError, match="no Python module"):
        resolve("a b:f")


def test_from_module():
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Dropout()).train()
    source = from_module(module, (torch.ones(1, 2),))
    assert (source.kind, source.name) == ("module", "Sequential")
    assert module.training
    assert not source.module.training
    assert source.materialize() is source.module
    with pytest.raises(UsageError, match="not int"):
        from_module(3)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_timm(name):
    import timm

    source = resolve(f"timm:{name}")
    assert (source.kind, source.name) == ("timm", name)
    assert source.args[0].shape == (2, 3, 224, 224)
    assert ("height" in source.dynamic["x"].values()) == (name == "resnet18")
    torch.manual_seed(0)
    expected = timm.create_model(name, pretrained=False).eval()
    for key, value in expected.state_dict().items():
        assert torch.equal(source.module.state_dict()[key], value)
    with torch.no_grad():
        assert source.materialize()(*source.args).shape == (2, 1000)


def test_the_fingerprint_is_the_same_in_another_process():
    code = "from porter.sources import resolve; print(resolve('timm:resnet18').sha256)"
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == resolve("timm:resnet18").sha256


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "fcn_resnet50"])
def test_torchvision(name, recwarn):
    source = resolve(f"torchvision:{name}")
    assert source.kind == "torchvision"
    assert source.args[0].shape == (2, 3, 224, 224)
    assert not source.module.training
    assert not [warning for warning in recwarn if "init" in str(warning.message)]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:resnet81", "did you mean .*resnet18"),
        ("timm:resnet18.no_such_tag", "tag"),
        ("timm:hf-hub:org/repo", "no model"),
        ("timm:", "no model"),
        ("torchvision:resnet81", "did you mean .*resnet18"),
        ("torchvision:fasterrcnn_resnet50_fpn", "not an image classifier"),
        ("torchvision:", "no model"),
    ],
)
def test_bad_names(spec, message):
    with pytest.raises(InputError, match=message) as caught:
        resolve(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_missing_package(package, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MachineError, match=rf"pip install 'porter\[{package}\]'"):
        resolve(f"{package}:resnet18")
