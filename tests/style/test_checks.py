"""Each check finds what it is for, and leaves what an expert writes alone."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from porter.emit.format import LINE_LENGTH
from porter.style import CHECKS, check, residue

GOLDEN = Path(__file__).parents[2] / "fixtures" / "golden"
WITHOUT_RUFF = tuple(name for name in CHECKS if name != "S11")


def module(call: str, init: str = "", imports: str = "", name: str = "Block") -> str:
    """A file with one block under a root, both of which are used."""
    text = f"""\
    import mlx.core as mx
    import mlx.nn as nn
    {imports}

    class {name}(nn.Module):
        def __init__(self, dim):
            super().__init__()
            {{init}}

        def __call__(self, x, mask=None):
            {{call}}


    class Model(nn.Module):
        def __init__(self, args):
            super().__init__()
            self.block = {name}(args.dim)

        def __call__(self, x):
            return self.block(x)
    """
    text = textwrap.dedent(text)
    return text.replace("{init}", init.replace("\n", "\n        ") or "pass").replace(
        "{call}", call.replace("\n", "\n        ")
    )


def ids(source: str, only: tuple[str, ...] = WITHOUT_RUFF) -> list[str]:
    return [finding.check for finding in check(source, only=only)]


BAD = {
    "S1": [module("return np.array(x)", imports="import numpy as np")],
    "S2": [
        module("n = x.sum().item()\nreturn x * n"),
        module("mx.eval(x)\nreturn x"),
        module("return [y for y in x.tolist()]"),
    ],
    "S3": [
        module("add_3 = x + 1\nreturn add_3"),
        module("getitem4 = x[0]\nreturn getitem4"),
        module("return x[:, 0:9223372036854775807]"),
    ],
    "S4": [
        module("return self.fc(x)", "self.fc = nn.Linear(dim, 768)"),
        module("return x.reshape(2, -1, 12)"),
        module("B, L, D = x.shape\nreturn x.reshape(B, L, D // 12, -1)"),
        module("shape = (1, 49, -1)\nreturn mx.reshape(x, shape)"),
    ],
    "S5": [
        module("return self.conv(x.transpose(0, 2, 3, 1))", "self.conv = nn.Conv2d(dim, dim, 3)"),
        module(
            "y = nn.relu(self.conv(x))\nreturn y.transpose(0, 3, 1, 2)",
            "self.conv = nn.Conv2d(dim, dim, 3)",
        ),
        module("return self.bn(mx.swapaxes(x, 1, 2))", "self.bn = nn.BatchNorm(dim)"),
    ],
    "S6": [
        module(
            "q, k, v = x\nw = mx.softmax(q @ k.transpose(0, 1, 3, 2) * 0.5 + mask, axis=-1)\nreturn w @ v"
        ),
        module("q, k, v = x\nreturn mx.matmul(mx.softmax(mx.matmul(q, k), -1).astype(q.dtype), v)"),
    ],
    "S7": [
        module(
            "q, k, v = x\nk = mx.repeat(k, 4, axis=1)\n"
            "return mx.fast.scaled_dot_product_attention(q, k, v, scale=1.0)"
        )
    ],
    "S8": [
        module("return x @ self.fc.weight.T", "self.fc = nn.Linear(dim, dim)"),
        module("w = self.w.transpose(1, 0)\nreturn x @ w", "self.w = mx.zeros((dim, dim))"),
    ],
    "S9": [
        module("return x * mx.sigmoid(x)"),
        module("gate = mx.sigmoid(1.702 * x)\nreturn gate * x"),
        module("return 0.5 * x * (1 + mx.erf(x / 1.4142))"),
        module("return x * mx.rsqrt(mx.mean(mx.square(x), axis=-1, keepdims=True) + 1e-6)"),
        module("return (x - x.mean(-1)) / mx.sqrt(x.var(-1) + 1e-5)"),
        module("return mx.concatenate([-x[..., 4:], x[..., :4]], axis=-1)"),
        module("return mx.log(mx.softmax(x, axis=-1))"),
        module("return x.transpose(0, 2, 1).transpose(0, 2, 1)"),
        module("return x * 1.0"),
    ],
    "S10": [
        module("return x", "\n".join(f"self.conv{i} = nn.Linear(dim, dim)" for i in range(4))),
        module("return x") + module("return x", name="BlockA").partition("import mlx.nn as nn")[2],
    ],
    "L1": [module("\n".join(f"x = x + {i + 1}" for i in range(43)) + "\nreturn x")],
}


@pytest.mark.parametrize(
    ("name", "source"), [(name, source) for name, sources in BAD.items() for source in sources]
)
def test_a_check_finds_what_it_is_for(name: str, source: str) -> None:
    assert name in ids(source)


GOOD = [
    module("return nn.silu(self.fc(x))", "self.fc = nn.Linear(dim, 4 * dim)"),
    module("return self.conv(x)", "self.conv = nn.Conv2d(dim, dim, 7, padding=3)"),
    module("x1, x2 = mx.split(x, 2, axis=-1)\nreturn x1 * nn.silu(x2)"),
    module("return x @ self.weight.T", "self.weight = mx.zeros((dim, dim))"),
    module(
        "y = mx.square(self.codes).sum(-1)\nreturn x @ self.codes.swapaxes(-1, -2) + y",
        "self.codes = mx.zeros((4, dim, dim))",
    ),
    module("scores = (x @ x.T) * 0.5\nreturn mx.softmax(scores, axis=-1) @ x, scores"),
    module("w = mx.softmax(5 * mx.tanh(x @ x.T / 5), axis=-1)\nreturn w @ x"),
    module("return mx.maximum(x, 0)"),
    module("return self.norm(x).transpose(0, 2, 1)", "self.norm = nn.LayerNorm(dim)"),
    module(
        "return "
        + "".join(f"self.fc_{part}(self.norm{i}(" for i, part in enumerate("abcd"))
        + "x"
        + "))" * 4,
        "\n".join(
            f"self.norm{i} = nn.LayerNorm(dim)\nself.fc_{part} = nn.Linear(dim, dim)"
            for i, part in enumerate("abcd")
        ),
    ),
    module("return x + 1e-5"),
    module(
        "m = x.mean(axis=1, keepdims=True)\ns = mx.sqrt(x.var(axis=1, keepdims=True) + 1e-5)\n"
        "return self.fc((x - m) / s) * s + m",
        "self.fc = nn.Linear(dim, dim)",
    ),
    module("return x / mx.sqrt(x.var(axis=-1, keepdims=True, ddof=1) + 1e-5)"),
]


@pytest.mark.parametrize("source", GOOD)
def test_what_experts_write_is_left_alone(source: str) -> None:
    assert ids(source) == []


def test_a_loop_makes_a_name_unknown() -> None:
    """`x` of the second turn is no longer the transpose."""
    source = module(
        "x = x.transpose(0, 2, 3, 1)\nfor _ in range(2):\n    x = self.conv(x)\nreturn x",
        "self.conv = nn.Conv2d(dim, dim, 3)",
    )
    assert "S5" not in ids(source)


def test_a_stated_reason_excuses_the_line_or_the_one_below() -> None:
    bad = "n = x.sum().item()"
    assert "S2" in ids(module(f"{bad}\nreturn x * n"))
    assert ids(module(f"# S2: the count depends on the data\n{bad}\nreturn x * n")) == []
    assert "S2" in ids(module(f"# S2:\n{bad}\nreturn x * n"))


def test_ruff_and_what_nothing_reads() -> None:
    source = module("return x", "self.unused = nn.Linear(dim, dim)", "import math")
    sentences = [finding.sentence for finding in check(source, only=("S11",))]
    assert any("F401" in sentence for sentence in sentences)
    assert "nothing reads Block.unused" in sentences
    assert residue.LINE_LENGTH == LINE_LENGTH


def test_lengths_are_soft_and_an_expert_is_compared_with() -> None:
    long = module("\n".join(f"x = x + {i + 1}" for i in range(60)) + "\nreturn x")
    found = check(long, expert=module("return x"), only=("L1",))
    assert [(f.check, f.hard) for f in found] == [("L6", False), ("L1", False)]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.py")), ids=lambda path: path.stem)
def test_the_golden_files_are_clean(path: Path) -> None:
    assert [str(f) for f in check(path.read_text("utf-8")) if f.hard] == []
