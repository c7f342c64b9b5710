"""Random modules: a plan (plain data, which hypothesis shrinks and prints) and the module that it describes.

A plan is a list of steps over one array: tokens (N, L, D), lines (N, C, L) or images (N, C, H, W). Every step keeps
the kind of the array; some change its width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import strategies as st
from torch import nn

Plan = list[Any]
ACTIVATIONS = {
    "relu": F.relu, "gelu": F.gelu, "silu": F.silu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "elu": F.elu,
    "hardswish": F.hardswish, "softplus": F.softplus, "leaky_relu": F.leaky_relu, "relu6": F.relu6,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "quick": lambda x: x * torch.sigmoid(1.702 * x),
}  # fmt: skip
MODULES = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
}
FUNCTIONS: dict[str, dict[str, Any]] = {
    "tokens": {
        "half": lambda x: x * 0.5,
        "centre": lambda x: x - x.mean(1, keepdim=True),
        "softmax": lambda x: x.softmax(-1),
        "flip": lambda x: x.flip(1),
        "roll": lambda x: x.roll(1, 1),
        "heads": lambda x: x.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2),
        "there and back": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
        "glu": lambda x: torch.cat([x, F.glu(torch.cat([x, x], -1), -1)], -1)[..., : x.shape[-1]],
        "first": lambda x: x + x[:, :1],
        "normalize": lambda x: F.normalize(x + 2, dim=-1),
        "clamp": lambda x: x.clamp(-1, 1),
        "mask": lambda x: torch.where(x > 0, x, x * 0.1),
        "self attention": lambda x: F.scaled_dot_product_attention(
            x[:, None], x[:, None], x[:, None]
        )[:, 0],
    },
    "lines": {
        "centre": lambda x: x - x.mean(2, keepdim=True),
        "channel softmax": lambda x: x.softmax(1),
        "smooth": lambda x: F.avg_pool1d(x, 3, 1, 1),
        "largest": lambda x: F.max_pool1d(x, 3, 1, 1),
        "tokens and back": lambda x: F.layer_norm(x.transpose(1, 2), (x.shape[1],)).transpose(1, 2),
        "shuffle": lambda x: x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2),
    },
    "images": {
        "centre": lambda x: x - x.mean((2, 3), keepdim=True),
        "channel mean": lambda x: x * x.mean(1, keepdim=True),
        "gate": lambda x: (
            (c := x.chunk(2, 1))[0].repeat(1, 2, 1, 1) * c[1].repeat(1, 2, 1, 1).sigmoid()
        ),
        "smooth": lambda x: F.avg_pool2d(x, 3, 1, 1),
        "largest": lambda x: F.max_pool2d(x, 3, 1, 1),
        "roll": lambda x: x.roll((1, 2), (2, 3)),
        "tokens and back": lambda x: F.layer_norm(x.flatten(2).mT, (x.shape[1],)).mT.reshape(
            x.shape
        ),
        "channels last": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],)).permute(
            0, 3, 1, 2
        ),
        "shuffle": lambda x: x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2),
        "pad and cut": lambda x: F.pad(x, (1, 0, 2, 0))[:, :, 1:-1, :-1],
        "up": lambda x: F.max_pool2d(F.interpolate(x, scale_factor=2), 2),
        "column": lambda x: x + x[:, :, :, :1],
        "windows": lambda x: x.unflatten(3, (2, -1)).flip(3).flatten(3),
    },
}


class Affine(nn.Module):
    """A parameter that is used twice, and a buffer."""

    def __init__(self, width: int, kind: str):
        super().__init__()
        shape = {"tokens": (width,), "lines": (width, 1), "images": (width, 1, 1)}[kind]
        self.gamma = nn.Parameter(torch.rand(shape))
        self.register_buffer("shift", torch.rand(shape))

    def forward(self, x):
        return (x + self.shift) * self.gamma - self.gamma


class Function(nn.Module):
    def __init__(self, function: Any):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Residual(nn.Module):
    def __init__(self, inner: nn.Module, scaled: bool, width: int):
        super().__init__()
        self.inner = inner
        self.scale = nn.Parameter(torch.rand(1)) if scaled else None

    def forward(self, x):
        y = self.inner(x)
        return x + y if self.scale is None else x + self.scale * y


class Block(nn.Module):
    """Steps by name in a ModuleDict."""

    def __init__(self, steps: list[nn.Module]):
        super().__init__()
        self.steps = nn.ModuleDict({"abcdefgh"[i]: step for i, step in enumerate(steps)})

    def forward(self, x):
        for step in self.steps.values():
            x = step(x)
        return x


class Stack(nn.Module):
    def __init__(self, blocks: list[nn.Module], collect: bool):
        super().__init__()
        self.blocks, self.collect = nn.ModuleList(blocks), collect

    def forward(self, x):
        kept = []
        for block in self.blocks:
            x = block(x)
            kept.append(x)
        return torch.stack(kept).mean(0) if self.collect else x


class Twice(nn.Module):
    """One module, called two times."""

    def __init__(self, inner: nn.Module, between: str):
        super().__init__()
        self.inner, self.between = inner, ACTIVATIONS[between]

    def forward(self, x):
        return self.inner(self.between(self.inner(x)))


class Fork(nn.Module):
    def __init__(self, left: nn.Module, right: nn.Module, how: str, kind: str):
        super().__init__()
        self.left, self.right, self.how = left, right, how
        self.axis = -1 if kind == "tokens" else 1

    def forward(self, x):
        a, b = self.left(x), self.right(x)
        if self.how == "add":
            return a + b
        if self.how == "gate":
            return a * torch.sigmoid(b)
        return torch.cat([a, b], self.axis)


class Net(nn.Module):
    def __init__(self, steps: list[nn.Module], head: nn.Module):
        super().__init__()
        self.body, self.head = nn.Sequential(*steps), head

    def forward(self, x):
        return self.head(self.body(x))


class Head(nn.Module):
    def __init__(self, width: int, kind: str, how: str):
        super().__init__()
        self.fc, self.kind, self.how = nn.Linear(width, 3), kind, how

    def forward(self, x):
        axes = {"tokens": (1,), "lines": (2,), "images": (2, 3)}[self.kind]
        x = x.mean(axes) if self.how == "mean" else x.amax(axes)
        return self.fc(x)


# ------------------------------------------------------------------------------------------------------------ plans


def plans(kind: str) -> st.SearchStrategy[Plan]:
    """Steps; a width of 0 stands for the width that comes in."""
    acts = st.sampled_from(sorted(ACTIVATIONS))
    layer = st.tuples(
        st.just("layer"), st.sampled_from([0, 4, 6]), st.sampled_from([1, 3]), st.booleans()
    )
    same = st.tuples(st.just("layer"), st.just(0), st.sampled_from([1, 3]), st.booleans())
    quiet = st.one_of(
        st.tuples(st.just("act"), acts),
        st.tuples(st.just("module"), st.sampled_from(sorted(MODULES))),
        st.tuples(st.just("norm"), st.sampled_from([0, 1])),
        st.tuples(st.just("function"), st.sampled_from(sorted(FUNCTIONS[kind]))),
        st.just(("affine",)),
    )
    keeping = st.lists(st.one_of(same, quiet), min_size=1, max_size=3)
    composite = st.one_of(
        st.tuples(st.just("residual"), keeping, st.booleans()),
        st.tuples(st.just("stack"), keeping, st.integers(2, 4), st.booleans()),
        st.tuples(st.just("nested"), keeping),
        st.tuples(st.just("named"), keeping),
        st.tuples(st.just("twice"), keeping, acts),
        st.tuples(
            st.just("fork"), keeping, keeping, st.sampled_from(["add", "gate", "concatenate"])
        ),
    )
    return st.lists(st.one_of(layer, quiet, composite), min_size=1, max_size=4)


def build(kind: str, plan: Plan, width: int, head: str) -> nn.Module:
    steps, width = _steps(kind, plan, width)
    return Net(steps, Head(width, kind, head) if head in ("mean", "max") else nn.Identity())


def _steps(kind: str, plan: Plan, width: int) -> tuple[list[nn.Module], int]:
    steps = []
    for step in plan:
        module, width = _step(kind, step, width)
        steps.append(module)
    return steps, width


def _step(kind: str, step: Any, width: int) -> tuple[nn.Module, int]:
    name, *rest = step

    def inner(plan: Plan) -> nn.Module:
        return nn.Sequential(*_steps(kind, plan, width)[0])

    if name == "layer":
        out = rest[0] or width
        return _layer(kind, width, out, rest[1], rest[2]), out
    if name == "act":
        return Function(ACTIVATIONS[rest[0]]), width
    if name == "module":
        return MODULES[rest[0]](), width
    if name == "norm":
        return _norm(kind, width, rest[0]), width
    if name == "function":
        return Function(FUNCTIONS[kind][rest[0]]), width
    if name == "affine":
        return Affine(width, kind), width
    if name == "residual":
        return Residual(inner(rest[0]), rest[1], width), width
    if name == "stack":
        return Stack([inner(rest[0]) for _ in range(rest[1])], rest[2]), width
    if name == "nested":
        return nn.Sequential(nn.Sequential(inner(rest[0]), nn.Tanh()), inner(rest[0])), width
    if name == "named":
        return Block(_steps(kind, rest[0], width)[0]), width
    if name == "twice":
        return Twice(inner(rest[0]), rest[1]), width
    both = Fork(inner(rest[0]), inner(rest[1]), rest[2], kind)
    return both, 2 * width if rest[2] == "concatenate" else width


def _layer(kind: str, width: int, out: int, kernel: int, bias: bool) -> nn.Module:
    if kind == "tokens":
        return nn.Linear(width, out, bias=bias)
    conv = nn.Conv1d if kind == "lines" else nn.Conv2d
    groups = width if out == width and kernel == 3 and bias else 1
    return conv(width, out, kernel, padding=kernel // 2, groups=groups, bias=bias)


def _norm(kind: str, width: int, which: int) -> nn.Module:
    if kind == "tokens":
        return nn.LayerNorm(width)
    if which:
        return nn.GroupNorm(2, width)
    return nn.BatchNorm1d(width) if kind == "lines" else nn.BatchNorm2d(width)
