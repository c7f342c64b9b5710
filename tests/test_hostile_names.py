"""Names that a source chooses are data: no text of theirs becomes code, and the port is right all the same."""

from __future__ import annotations

import ast

import pytest
import torch
from torch import nn

from porter import loading
from porter.convert import convert
from porter.sources import SourceOptions
from porter.validate import validation

EVIL = '"""\nimport os\nos.system("touch PWNED")\n"""'
NAMES = [
    'a"b', "c'd", "e\nf", "import", "class", "größe", "update", "items", "self", "mx", "nn", "args", "1x", "a b",
    '"""', "\\", "_", "weight", "x)\nimport os#", "{x}", "%s", "\u202e", "None", "__call__", EVIL.replace(".", ""),
]  # fmt: skip


@pytest.fixture(autouse=True)
def untimed(monkeypatch):
    monkeypatch.setattr(validation, "SPEED_SECONDS", 0.0)


class Named(nn.Module):
    """One thing of that name; `kind` says what."""

    def __init__(self, name: str, kind: str) -> None:
        super().__init__()
        self.called, self.kind = name, kind
        self.fc = nn.Linear(8, 8)
        if kind == "module":
            self.add_module(name, nn.Linear(8, 8))
        elif kind == "dictionary":
            self.table = nn.ModuleDict({name: nn.Linear(8, 8)})
        elif kind == "parameter":
            self.register_parameter(name, nn.Parameter(torch.randn(8)))
        else:
            self.register_buffer(name, torch.randn(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.fc(x))
        if self.kind == "module":
            return self._modules[self.called](x)
        if self.kind == "dictionary":
            return self.table[self.called](x)
        return x * {**self._parameters, **self._buffers}[self.called]


def port(module, out, **options):
    return convert(module, out, example_inputs=(torch.randn(2, 8),), **options)


def harmless(folder) -> str:
    """model.py's text: it parses, imports MLX only, and calls nothing of the operating system."""
    text = (folder / "model.py").read_text()
    tree = ast.parse(text)
    words = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    words |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not words & {"os", "system", "eval", "exec", "open", "__import__"}
    imported = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
    assert all("os" not in [a.name for a in n.names] for n in imported)
    return text


@pytest.mark.parametrize("kind", ["module", "dictionary", "parameter", "buffer"])
def test_names_load(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        try:
            module = Named(name, kind)
        except (KeyError, TypeError):
            continue  # torch has that name itself
        port(module, tmp_path / "out", proof=False, overwrite=True)
        harmless(tmp_path / "out")
        loading.load(tmp_path / "out")
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("kind", ["module", "dictionary", "parameter", "buffer"])
def test_a_hostile_name_is_proven(tmp_path, kind):
    conversion = port(Named('e"\nf', kind), tmp_path / "out")
    assert conversion.verdict == "pass", conversion.to_dict()


class Alike(nn.Module):
    """Names that become the same identifier."""

    def __init__(self, parameters: bool) -> None:
        super().__init__()
        self.parameters_only = parameters
        for name in ("a-b", "a_b", "a b"):
            if parameters:
                self.register_parameter(name, nn.Parameter(torch.randn(8)))
            else:
                self.add_module(name, nn.Linear(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in ("a b", "a_b", "a-b"):
            x = torch.tanh(x)
            x = x * self._parameters[name] if self.parameters_only else self._modules[name](x)
        return x


@pytest.mark.parametrize("parameters", [False, True])
def test_names_that_become_alike_stay_apart(tmp_path, parameters):
    assert port(Alike(parameters), tmp_path / "out").verdict == "pass"


class Titled(nn.Module):
    """Its constructor's arguments reach ModelArgs, its class's name the docstring."""

    def __init__(self, dim: int, title: str) -> None:
        super().__init__()
        self.title = title
        self.fc = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


def test_hostile_strings_are_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from porter.sources.built import built_source
    from porter.sources.constructors import record_constructors

    with record_constructors() as log:
        module = type(f"Titled{EVIL}", (Titled,), {})(8, EVIL)
    example = (torch.randn(2, 8),)
    source = built_source(
        EVIL, SourceOptions(), "module", EVIL, module, example, {}, constructors=log
    )
    source.config = {"model_type": EVIL, "dim": 8, "x) -> None: pass": 3, "hidden": EVIL}
    monkeypatch.setattr("porter.convert.resolve", lambda *_: source)
    conversion = convert("EVIL", tmp_path / "out")
    assert conversion.verdict == "pass"
    harmless(tmp_path / "out")
    assert not (tmp_path / "PWNED").exists()


def test_hostile_checkpoint_keys(tmp_path):
    from safetensors.torch import save_file

    tensors = {**Titled(8, "").state_dict()}
    keys = {f'model{EVIL}"].{name}': tensor for name, tensor in tensors.items()}
    save_file(keys, tmp_path / "new.safetensors")
    options = {"checkpoint": str(tmp_path / "new.safetensors"), "proof": False}
    port(Titled(8, ""), tmp_path / "first", **options)
    harmless(tmp_path / "first")
    loading.load(tmp_path / "first")
    again = convert(
        str(tmp_path / "new.safetensors"),
        tmp_path / "second",
        mapping=str(tmp_path / "first"),
        proof=False,
    )
    assert again.verdict == "unproven"
    harmless(tmp_path / "second")
