"""Quick fake results are what torch works out, in shape, strides and type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F  # noqa: N812

from porter.errors import UnsupportedError
from porter.frontends.export import export_program
from porter.frontends.quick_fakes import quick_fakes
from porter.sources.built import from_module

NORM = torch.ones(8)

CALLS: dict[str, Callable[[torch.Tensor], Any]] = {
    "batch_norm": lambda x: F.batch_norm(x, NORM, NORM, NORM, NORM),
    "batch_norm, not affine": lambda x: F.batch_norm(x, NORM, NORM),
    "layer_norm": lambda x: torch.native_layer_norm(x, [6], NORM[:6], NORM[:6], 1e-5),
    "layer_norm of two axes": lambda x: torch.native_layer_norm(x, [4, 6], None, None, 1e-5),
    "group_norm": lambda x: torch.native_group_norm(x, NORM, NORM, 2, 8, 24, 4, 1e-5),
    "softmax of masked rows": lambda x: torch.ops.aten._safe_softmax(x, -1),
    "softmax in another type": lambda x: torch.ops.aten._safe_softmax(x, -1, dtype=torch.float64),
    "pow": lambda x: x**2,
    "pow of whole numbers": lambda x: x.long() ** 2,
    "rsqrt": torch.rsqrt,
    "rsqrt of whole numbers": lambda x: torch.rsqrt(x.long()),
    "clamp": lambda x: x.clamp_min(0.5),
    "gelu": F.gelu,
    "elu": F.elu,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": F.hardtanh,
    "leaky_relu": F.leaky_relu,
    "mish": F.mish,
    "softplus": F.softplus,
    **{
        f.__name__: f
        for f in (
            torch.relu,
            torch.sigmoid,
            torch.tanh,
            torch.exp,
            torch.sqrt,
            torch.neg,
            torch.abs,
            torch.sin,
            torch.log,
        )
    },
    "silu": F.silu,
    "exp of whole numbers": lambda x: torch.exp(x.long()),
    "relu of whole numbers": lambda x: torch.relu(x.long()),
}

LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "part": lambda x: torch.cat([x, x], 3)[..., :6],
    "expanded": lambda x: x[:1].expand(2, -1, -1, -1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CALLS)
def test_as_torch_works_it_out(name: str, layout: str) -> None:
    def facts() -> list[Any]:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            result = CALLS[name](LAYOUTS[layout](torch.randn(2, 8, 4, 6)))
        tensors = result if isinstance(result, tuple) else (result,)
        return [(t.shape, t.stride(), t.dtype, t.device) for t in tensors]

    expected = facts()
    with quick_fakes():
        assert facts() == expected
    assert facts() == expected


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(6), nn.LayerNorm(5), nn.GroupNorm(2, 6)])
def test_a_norm_of_another_size_is_refused(norm: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), norm).eval()
    with pytest.raises(UnsupportedError, match="refuses"):
        export_program(from_module(model, (torch.randn(2, 3, 16, 16),)))
