"""Random modules: a plan (plain data, which hypothesis shrinks and prints) and the module that it describes.

A plan is a list of steps over one array: tokens (N, L, D), lines (N, C, L) or images (N, C, H, W). Every step keeps
the kind of the array; some change its width.
"""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

from tests.random_modules.pieces import ACTIVATIONS, FUNCTIONS, MODULES

Plan = list[Any]


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


class Recurrent(nn.Module):
    """A recurrent layer over tokens, both ways or one, and its last state."""

    def __init__(self, width: int, cls: str, both: bool):
        super().__init__()
        hidden = width // 2 if both else width
        self.rnn = getattr(nn, cls)(width, hidden, batch_first=True, bidirectional=both)

    def forward(self, x):
        y, state = self.rnn(x)
        state = state[0] if isinstance(state, tuple) else state
        return y + state.transpose(0, 1).flatten(1)[:, None]


class Attention(nn.Module):
    def __init__(self, width: int, causal: bool):
        super().__init__()
        self.attn, self.causal = nn.MultiheadAttention(width, 2, batch_first=True), causal

    def forward(self, x):
        mask = None
        if self.causal:
            mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        return x + self.attn(x, x, x, attn_mask=mask, need_weights=False)[0]


class Routed(nn.Module):
    """Experts in a ModuleList, weighted by a gate."""

    def __init__(self, experts: list[nn.Module], width: int, axis: int):
        super().__init__()
        self.experts, self.axis = nn.ModuleList(experts), axis
        self.gate = nn.Linear(width, len(experts))

    def forward(self, x):
        share = self.gate(x.movedim(self.axis, -1)).softmax(-1)
        parts = [
            share[..., i : i + 1].movedim(-1, self.axis) * e(x) for i, e in enumerate(self.experts)
        ]
        return sum(parts)


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
    """`form`: one array in and out; a second input that scales; a tuple or a dict of outputs."""

    def __init__(self, steps: list[nn.Module], head: nn.Module, form: str = "one"):
        super().__init__()
        self.body, self.head, self.form = nn.Sequential(*steps), head, form

    def forward(self, x, scale=None):
        if scale is not None:
            x = x * scale
        h = self.body(x)
        y = self.head(h)
        if self.form == "tuple":
            return y, h.mean()
        if self.form == "dict":
            return {"logits": y, "hidden": h * 2, "positive": h > 0}
        return y


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
    experts = st.tuples(st.just("routed"), keeping, st.integers(2, 3))
    composite = st.one_of(composite, experts)
    if kind == "tokens":
        recurrent = st.sampled_from(["GRU", "LSTM", "RNN"])
        composite = st.one_of(
            composite,
            st.tuples(st.just("recurrent"), recurrent, st.booleans()),
            st.tuples(st.just("attention"), st.booleans()),
        )
    return st.lists(st.one_of(layer, quiet, composite), min_size=1, max_size=4)


def build(kind: str, plan: Plan, width: int, head: str, form: str = "one") -> nn.Module:
    steps, width = _steps(kind, plan, width)
    last = Head(width, kind, head) if head in ("mean", "max") else nn.Identity()
    return Net(steps, last, form)


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
    if name == "routed":
        members = [inner(rest[0]) for _ in range(rest[1])]
        return Routed(members, width, -1 if kind == "tokens" else 1), width
    if name == "recurrent":
        return Recurrent(width, rest[0], rest[1]), width
    if name == "attention":
        return Attention(width, rest[0]), width
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
        return nn.RMSNorm(width) if which else nn.LayerNorm(width)
    if which:
        return nn.GroupNorm(2, width)
    return nn.BatchNorm1d(width) if kind == "lines" else nn.BatchNorm2d(width)
