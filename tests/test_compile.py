"""Small modules compiled and run: exec of the emitted source with the recipes' weights, against torch at 1e-5.

Each case is checked at the traced batch, at others, and at other sizes where the input has dims that may change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from tests.compiled_nets import (
    Bert,
    ConvNext,
    Encoder,
    Experts,
    Gru,
    Llama,
    Mlp,
    Resnet,
    Tied,
    Unet,
    Vit,
    Wave,
)
from tests.random_modules.parity import check_source, port_of

BATCH = {0: "batch"}
TOKENS = {0: "batch", 1: "length"}
IMAGE = {0: "batch", 2: "height", 3: "width"}


@dataclass(frozen=True)
class Case:
    build: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    dims: tuple[dict[int, str], ...] = (BATCH,)
    others: tuple[tuple[tuple[int, ...], ...], ...] = ()
    integers: bool = False


def _images(
    build: Callable[[], nn.Module], *others: int, size: int = 32, dims: dict[int, str] = IMAGE
) -> Case:
    return Case(build, ((2, 3, size, size),), (dims,), tuple(((2, 3, o, o + 16),) for o in others))


def _tokens(build: Callable[[], nn.Module], width: int, *others: int) -> Case:
    return Case(build, ((2, 6, width),), (TOKENS,), tuple(((3, o, width),) for o in others))


CASES = {
    "mlp": _tokens(lambda: Mlp(6), 6, 9),
    "encoder": _tokens(Encoder, 12, 9, 2),
    "encoder spelled out": _tokens(lambda: Encoder(fused=False), 12, 9),
    "vit": Case(Vit, ((2, 3, 16, 16),)),
    "resnet": _images(Resnet, 48),
    "convnext": _images(ConvNext, 48),
    "unet": Case(Unet, ((2, 3, 16, 16),)),
    "wave": Case(Wave, ((2, 2, 20),), ({0: "batch", 2: "length"},), (((1, 2, 33),),)),
    "llama": Case(Llama, ((2, 6),), (TOKENS,), (((3, 9),), ((1, 2),)), True),
    "bert": Case(Bert, ((2, 6), (2, 6)), (TOKENS, TOKENS), (((3, 9), (3, 9)),), True),
    "tied": Case(Tied, ((2, 6),), (TOKENS,), (((3, 9),),), True),
    "experts": _tokens(Experts, 6, 9),
    "lstm": Case(lambda: Gru(nn.LSTM), ((2, 6, 4),)),
    "gru": Case(lambda: Gru(nn.GRU), ((2, 6, 4),)),
    "one layer": Case(lambda: nn.Linear(4, 3), ((2, 4),)),
    "one conv": _images(lambda: nn.Conv2d(3, 4, 3), 40),
    "nested sequentials": Case(
        lambda: nn.Sequential(
            nn.Sequential(nn.Linear(4, 6), nn.ReLU()), nn.Sequential(nn.Linear(6, 4), nn.Sequential(nn.Tanh()))
        ),
        ((2, 4),),
    ),
}  # fmt: skip


def inputs(case: Case, shapes: tuple[tuple[int, ...], ...]) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(7)
    if not case.integers:
        return tuple(torch.randn(shape, generator=generator) for shape in shapes)
    ids = torch.randint(1, 12, shapes[0], generator=generator)
    mask = torch.ones_like(ids)
    mask[0, shapes[0][1] // 2 + 1 :] = 0
    return (ids, mask)[: len(shapes)]


def dynamic(case: Case) -> dict[str, dict[int, str]]:
    import inspect

    names = inspect.signature(case.build().forward).parameters
    return dict(zip(names, case.dims, strict=False))


@pytest.mark.parametrize("name", CASES)
def test_emitted_source_computes_what_torch_does(name: str) -> None:
    case = CASES[name]
    result = port_of(case.build, inputs(case, case.shapes), dynamic(case))
    result.check(*inputs(case, case.shapes))
    for batch in (1, 3):
        result.check(*inputs(case, tuple((batch, *shape[1:]) for shape in case.shapes)))
    for shapes in case.others:
        result.check(*inputs(case, shapes))
    check_source(result.port.model_py)


IMAGES = [
    name for name, case in CASES.items() if case.shapes[0][1] == 3 and len(case.shapes[0]) == 4
]


@pytest.mark.parametrize("name", IMAGES)
def test_inputs_as_torch_has_them(name: str) -> None:
    case = CASES[name]
    result = port_of(case.build, inputs(case, case.shapes), dynamic(case), input_layout="nchw")
    assert result.port.inputs[0]["permute"] is None
    result.check(*inputs(case, case.shapes))
    assert result.port.model_py.count("transpose(0, 2, 3, 1)") == 1


def test_integers_keep_their_dtype() -> None:
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("ids", torch.arange(8)[None])

        def forward(self, a):
            return a.argmax(-1), (a > 0).sum(-1), a > 0, a.long()

    result = port_of(Positions, (torch.randn(2, 5),))
    result.check(torch.randn(2, 5))


def test_stored_positions_keep_their_dtype() -> None:
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("ids", torch.arange(8)[None])

        def forward(self, a):
            return a + 1, self.ids[:, : a.shape[1]]

    result = port_of(Positions, (torch.randn(2, 5),))
    result.check(torch.randn(2, 5))


def test_modules_that_can_be_compared_are_listed() -> None:
    port = port_of(Resnet, (torch.randn(2, 3, 32, 32),)).port
    entries = {entry["path"]: entry for entry in port.modules}
    blocks = {
        entry["path"]: entry["source"] for entry in port.modules if entry["class"] == "Bottleneck"
    }
    assert sorted(blocks.values()) == ["layer1.0", "layer1.1", "layer1.2", "layer2.0", "layer2.1"]
    assert entries["conv1"]["class"] == "nn.Conv2d"
    assert entries["conv1"]["leaf"]
    assert entries["conv1"]["inputs"] == [{"value": "x", "permute": [0, 2, 3, 1]}]
    assert entries["fc"]["outputs"] == [{"value": "linear", "permute": None}]


def test_attributes_are_the_checkpoint_s_keys() -> None:
    port = port_of(Encoder, (torch.randn(2, 6, 12),)).port
    assert "layers.0.attn.qkv.weight" in port.recipes


class ReadTwice(nn.Module):
    """One number for each channel, beside an image and by itself."""

    def __init__(self):
        super().__init__()
        self.gamma, self.conv = nn.Parameter(torch.rand(4, 1, 1)), nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.conv(x) * self.gamma + torch.sin(self.gamma * 2)


def test_a_parameter_that_is_read_in_two_layouts() -> None:
    result = port_of(ReadTwice, (torch.randn(2, 3, 8, 8),))
    result.check(torch.randn(2, 3, 8, 8))


class Fold(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.a(x) * self.b(x).tanh()


class Stage(nn.Module):
    """A list of some blocks of one kind, then one of another."""

    def __init__(self, count):
        super().__init__()
        self.stage = nn.ModuleList([*(Mlp(4) for _ in range(count)), Fold()])

    def forward(self, x):
        for block in self.stage:
            x = block(x)
        return x


def test_lists_of_different_lengths_with_another_item_behind() -> None:
    def build() -> nn.Module:
        return nn.Sequential(Stage(3), Stage(2), Stage(3))

    port_of(build, (torch.randn(2, 4),), {"input": BATCH}).check(torch.randn(3, 4))


class Mapped(nn.Module):
    """torch.vmap hides an axis from the ops inside, as transformers does for its masks."""

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(6, 6)

    def forward(self, x):
        near = torch.vmap(lambda q: torch.vmap(lambda k: (q - k).abs() < 2)(torch.arange(6)))
        return self.proj(torch.where(near(torch.arange(6)), x, 0))


def test_a_function_mapped_over_an_axis() -> None:
    result = port_of(Mapped, (torch.randn(2, 6, 6),), {"x": BATCH})
    result.check(torch.randn(3, 6, 6))


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, x):
        return torch.where(x > 0, self.proj(x), torch.tensor(-7.0))


def test_a_tensor_of_one_number_is_a_number() -> None:
    result = port_of(Masked, (torch.randn(2, 4),), {"x": BATCH})
    result.check(torch.randn(3, 4))
    assert "mx.where(x > 0, self.proj(x), -7.0)" in result.port.model_py


def test_the_middle_of_a_list_is_read_after_its_end() -> None:
    class Taps(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Mlp(6) for _ in range(4))

        def forward(self, x):
            for block in self.blocks[:2]:
                x = block(x)
            middle = x
            for block in self.blocks[2:]:
                x = block(x)
            return x - middle

    result = port_of(Taps, (torch.randn(2, 6),))
    result.check(torch.randn(2, 6))


class Normed(nn.Module):
    def __init__(self, dim: int = 8, eps: float = 1e-5):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=eps)

    def forward(self, x):
        return self.norm(x)


def test_a_setting_at_the_default_of_mlx_is_written():
    """Another checkpoint may have it differently."""
    ported = port_of(Normed, [torch.randn(2, 5, 8)], {"x": TOKENS})
    assert "nn.LayerNorm(args.dim, eps=args.eps)" in ported.port.model_py
