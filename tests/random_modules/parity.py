"""Compiles a module, loads the emitted source with the recipes' weights, and compares it with torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import torch

from porter.compile import Port, compile_port
from porter.emit.format import LINE_LENGTH
from porter.loading import model_args
from porter.sources.built import built_source
from porter.sources.constructors import record_constructors
from porter.weights import recipes
from porter.weights.overlay import Overlay
from porter.weights.readers import ModuleTensors

RELATIVE = 1e-5  # of the largest element of the float64 reference
_SERIAL = count()
_ALLOWED = {"dataclasses", "collections.abc", "typing", "mlx.core", "mlx.nn", "math"}
_MLX_LM = {
    "mlx.nn.layers.distributed",
    "mlx_lm.models.activations",
    "mlx_lm.models.base",
    "mlx_lm.models.cache",
    "mlx_lm.models.gated_delta",
    "mlx_lm.models.rope_utils",
    "mlx_lm.models.ssm",
    "mlx_lm.models.switch_layers",
}

Build = Callable[[], torch.nn.Module]


@dataclass
class Ported:
    """A module, its port, and the emitted model with the recipes' weights."""

    module: torch.nn.Module
    port: Port
    model: nn.Module

    def run(self, *inputs: torch.Tensor) -> list[np.ndarray]:
        """The emitted model's outputs, their axes in torch's order."""
        described = zip(self.port.inputs, inputs, strict=True)
        result = self.model(
            *(to_mlx(x.permute(d["permute"]) if d["permute"] else x) for d, x in described)
        )
        values = list(result.values()) if isinstance(result, dict) else result
        arrays = list(values) if isinstance(values, (tuple, list)) else [values]
        assert len(arrays) == len(self.port.outputs)
        back = []
        for array, described_output in zip(arrays, self.port.outputs, strict=True):
            permute = described_output["permute"]
            back.append(
                np.array(array).transpose(np.argsort(permute)) if permute else np.array(array)
            )
        return back

    def check(self, *inputs: torch.Tensor) -> None:
        """Each output within RELATIVE of torch in float64; shapes and dtypes are torch's in float32."""
        with torch.no_grad():
            single = flat(self.module(*deepcopy(inputs)))
            double = flat(
                deepcopy(self.module).double()(
                    *(x.double() if x.is_floating_point() else x for x in inputs)
                )
            )
        found = self.run(*inputs)
        assert len(found) == len(single)
        for array, ours, truth in zip(found, single, double, strict=True):
            assert str(array.dtype) == str(ours.dtype).removeprefix("torch.")
            close(array, truth.numpy(), self.port.model_py)


def port_of(
    build: Build,
    args: Sequence[torch.Tensor],
    dynamic: dict[str, dict[int, str]] | None = None,
    input_layout: str = "nhwc",
) -> Ported:
    """Builds (recording the constructors' arguments, as for a factory), compiles and loads."""
    torch.manual_seed(0)
    with record_constructors() as log:
        module = randomized(build()).eval()
    source = built_source(
        "test", _OPTIONS, "factory", type(module).__name__, module, tuple(args), {}, dynamic, log
    )
    port = compile_port(source, input_layout)
    tensors: Any = Overlay(ModuleTensors(module.state_dict()), port.kept)
    return Ported(module, port, loaded(port, tensors))


def loaded(port: Port, tensors: Any) -> nn.Module:
    """The emitted Model with every recipe evaluated, strictly loaded."""
    name = f"emitted_{next(_SERIAL)}"
    emitted = types.ModuleType(name)
    sys.modules[name] = emitted
    try:
        exec(compile(port.model_py, name, "exec"), emitted.__dict__)
        model = emitted.Model(model_args(emitted.ModelArgs, port.config))
    finally:
        del sys.modules[name]
    shapes = {path: array.shape for path, array in parameters(model).items()}
    weights = [(path, recipes.evaluate(recipe, tensors)) for path, recipe in port.recipes.items()]
    assert shapes == {path: array.shape for path, array in weights}, port.model_py
    model.load_weights(weights, strict=True)
    model.eval()
    return model


def parameters(model: nn.Module) -> dict[str, mx.array]:
    from mlx.utils import tree_flatten

    return dict(tree_flatten(model.parameters()))


def randomized(module: torch.nn.Module) -> torch.nn.Module:
    """Norms start as the identity, which would hide swapped parameters and dropped statistics."""
    generator = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(getattr(layer, "running_mean", None), torch.Tensor):
            layer.running_mean.copy_(
                torch.randn(layer.running_mean.shape, generator=generator) * 0.3
            )
            layer.running_var.copy_(torch.rand(layer.running_var.shape, generator=generator) + 0.5)
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return module


def close(array: np.ndarray, truth: np.ndarray, what: str = "") -> None:
    assert array.shape == truth.shape, what
    if not np.issubdtype(truth.dtype, np.floating):
        np.testing.assert_array_equal(array, truth)
        return
    assert np.isfinite(array).all(), what
    scale = np.abs(truth).max(initial=0.0)
    worst = np.abs(array - truth).max(initial=0.0)
    assert worst <= RELATIVE * scale, f"off by {worst:.2e} of {scale:.2e}\n{what}"


def check_source(text: str) -> None:
    """What holds of every emitted file: imports, names, formatting, nothing unused."""
    tree = ast.parse(text)
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert imported <= _ALLOWED | _MLX_LM, imported
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    names |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    numbered = {name for name in names if re.search(r"_\d+$", name)}
    assert not numbered, f"a trace's names: {numbered}\n{text}"
    calls = {
        n.func.attr
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)
    }
    assert not calls & {"eval", "item", "tolist"}, text
    lines = ["--line-length", str(LINE_LENGTH), "--stdin-filename", "model.py", "-"]
    rules = "E4,E7,E9,F,I,UP,B,A,RET,SIM,C4,PIE"
    for command in (
        ["format", "--check"],
        ["check", "--select", rules, "--ignore", "RET504,SIM108,UP005,A002,B905"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", command[0], "--isolated", *command[1:], *lines],
            input=text, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{text}"


def checked_source(build: Callable[[], torch.nn.Module], batch: int, *sizes: int) -> str:
    """The source of a module of one array, once the port has computed what torch does at another batch too."""
    example, other = (
        torch.randn(n, *sizes, generator=torch.Generator().manual_seed(n))
        for n in (batch, batch + 1)
    )
    ported = port_of(build, (example,))
    ported.check(example)
    ported.check(other)
    check_source(ported.port.model_py)
    return ported.port.model_py


def flat(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    items = output.values() if isinstance(output, dict) else output
    return [tensor for item in items for tensor in flat(item)]


def to_mlx(tensor: torch.Tensor) -> mx.array:
    return mx.array(tensor.detach().contiguous().numpy())


def _options() -> Any:
    from porter.sources import SourceOptions

    return SourceOptions()


_OPTIONS = _options()
